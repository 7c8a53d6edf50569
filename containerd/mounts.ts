/**
 * The client of containerd's Mounts service.
 *
 * @module
 */

import { Mounts } from "./api/mounts_pb.ts";
import type { CallOptions, Connection } from "./connection.ts";
import { fromMounts, toActivation } from "./convert.ts";
import type {
  ActivateOptions,
  Activation,
  ActivationChange,
  ListOptions,
  MountManager,
} from "../linux/manager/types.ts";
import { UnimplementedError } from "./errors.ts";
import { shown } from "../ffi/text.ts";
import type { Mount } from "../linux/spec/mount.ts";
import type { UnmountOptions } from "../linux/unmount/deadline.ts";

const NOTHING_TO_DO = "not implemented"; // its manager has more to say about a list that it fails at

/** containerd's mount manager. Its mounts are in the mount namespace of containerd. */
export class MountsClient implements MountManager {
  readonly #connection: Connection;

  /**
   * Calls nothing yet.
   *
   * @param connection the connection.
   */
  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * Lets containerd mount what the list needs. It refuses a list that needs nothing.
   *
   * @param name the name of the activation.
   * @param mounts the list.
   * @param options labels, whether to mount everything, the timeout and the signal.
   * @returns what containerd has mounted, and what is left to mount.
   * @throws {UnimplementedError} for a list that needs no manager, and for one that containerd's can't do.
   * @throws {AlreadyExistsError} if an activation has that name.
   * @throws {TypeError} for `allowMountTypes`, which the service doesn't take.
   */
  async activate(
    name: string,
    mounts: readonly Mount[],
    options: ActivateOptions = {},
  ): Promise<Activation> {
    const { temporary = false, labels, allowMountTypes = [] } = options;
    if (allowMountTypes.length > 0) {
      throw new TypeError("containerd's Mounts service takes no allowMountTypes");
    }
    const request = { name, mounts: fromMounts(mounts), labels: { ...labels }, temporary };
    const action = `activate the mounts ${shown(name)}`;
    try {
      return toActivation(
        (await this.#connection.call(Mounts.method.activate, request, action, options)).info,
      );
    } catch (error) {
      if (!(error instanceof UnimplementedError) || error.details !== NOTHING_TO_DO) throw error;
      const { code, details, cause } = error;
      const hint = "the list needs no manager, mount it with mountAll()";
      throw new UnimplementedError(code, { action, details, hint, cause });
    }
  }

  /**
   * Lets containerd unmount what an activation has mounted.
   *
   * @param name the name of the activation.
   * @param options the timeout and the signal.
   * @throws {NotFoundError} if there is no such activation.
   * @throws {TypeError} for the options of umount2(2), which the service doesn't take.
   */
  async deactivate(name: string, options: UnmountOptions = {}): Promise<void> {
    const refused = (["detach", "force", "expire", "noFollow", "namespace"] as const).find((key) =>
      options[key]
    );
    if (refused !== undefined) throw new TypeError(`containerd's Mounts service takes no ${refused}`);
    const action = `deactivate the mounts ${shown(name)}`;
    await this.#connection.call(Mounts.method.deactivate, { name }, action, options);
  }

  /**
   * What an activation has mounted. containerd has not recorded the sources and options of these mounts.
   *
   * @param name the name of the activation.
   * @param options the timeout and the signal.
   * @returns the activation.
   * @throws {NotFoundError} if there is no such activation.
   */
  async info(name: string, options?: CallOptions): Promise<Activation> {
    const action = `get the activation ${shown(name)}`;
    return toActivation((await this.#connection.call(Mounts.method.info, { name }, action, options)).info);
  }

  /**
   * The activations of the namespace.
   *
   * @param options the labels that they have, the timeout and the signal.
   * @returns the activations.
   */
  async *list(
    options: ListOptions & CallOptions = {},
  ): AsyncGenerator<Activation, void, void> {
    const wanted = Object.entries(options.labels ?? {});
    const conditions = wanted.map(([key, value]) =>
      `labels.${JSON.stringify(key)}==${JSON.stringify(value)}`
    );
    const filters = conditions.length === 0 ? [] : [conditions.join(",")];
    for await (
      const { info } of this.#connection.stream(
        Mounts.method.list,
        { filters },
        "list the activations",
        options,
      )
    ) {
      const activation = toActivation(info);
      // containerd 2.2 to 2.4 ignores the filters.
      if (wanted.every(([key, value]) => activation.labels[key] === value)) yield activation;
    }
  }

  /**
   * Replaces the labels of an activation. No containerd does this up to 2.4.
   *
   * @param name the name of the activation.
   * @param change the labels.
   * @param options the timeout and the signal.
   * @returns the activation.
   * @throws {UnimplementedError} by containerd up to 2.4.
   */
  async update(
    name: string,
    { labels }: ActivationChange,
    options?: CallOptions,
  ): Promise<Activation> {
    const request = { info: { name, labels: { ...labels } }, updateMask: { paths: ["labels"] } };
    const action = `update the activation ${shown(name)}`;
    return toActivation((await this.#connection.call(Mounts.method.update, request, action, options)).info);
  }
}
