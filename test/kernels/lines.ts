/**
 * Text as lines.
 *
 * @module
 */

/** Splits a stream of text into lines, without the carriage returns that a terminal adds. */
export class TextLineStream extends TransformStream<string, string> {
  /** Makes a stream of lines. */
  constructor() {
    let rest = "";
    super({
      transform(chunk, controller) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) controller.enqueue(line.replace(/\r+$/, ""));
      },
      flush(controller) {
        if (rest !== "") controller.enqueue(rest);
      },
    });
  }
}
