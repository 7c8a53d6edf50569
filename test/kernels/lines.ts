/**
 * Splits text into lines.
 *
 * @module
 */

/** Splits a stream of text into lines, and removes the carriage returns of a terminal. */
export class TextLineStream extends TransformStream<string, string> {
  /** Creates a stream of lines. */
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
