/**
 * The packages that this room uses, as pinned and complete specifiers: an https import uses no import map. No other room
 * of the library uses them.
 *
 * @module
 */

export {
  type CallOptions as GrpcCallOptions,
  type ChannelCredentials,
  Client,
  type ClientReadableStream,
  connectivityState,
  credentials,
  type handleServerStreamingCall as HandleServerStreamingCall,
  type handleUnaryCall as HandleUnaryCall,
  Metadata,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  status,
  type StatusObject,
  type UntypedServiceImplementation,
} from "npm:@grpc/grpc-js@1.14.7";
export {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "npm:@bufbuild/protobuf@2.17.0";
export {
  enumDesc,
  fileDesc,
  type GenEnum,
  type GenFile,
  type GenMessage,
  type GenService,
  messageDesc,
  serviceDesc,
} from "npm:@bufbuild/protobuf@2.17.0/codegenv2";
export {
  type Any,
  type EmptySchema,
  type FieldMask,
  file_google_protobuf_any,
  file_google_protobuf_empty,
  file_google_protobuf_field_mask,
  file_google_protobuf_timestamp,
  type Timestamp,
  timestampDate,
  timestampFromDate,
} from "npm:@bufbuild/protobuf@2.17.0/wkt";
