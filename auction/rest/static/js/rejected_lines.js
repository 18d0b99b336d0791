// What the engine says of the wrong lines of a list, in the reader's language.
import { count } from "./format.js";
import { word } from "./words.js";

const WHOLE = /^(\d+) lines rejected, nothing taken: (.*?)(?:; and \d+ more)?$/s;
const REASONS = [
  [/^(['"])(.*)\1 is no id in /s, ([, , text]) => word("rejectNoId", { text: `“${text}”` })],
  [/^(\d+) stands in line (\d+) already$/, ([, id, first]) => word("rejectTwice", { id, first: count(Number(first)) })],
  [/^longer than (\d+) bytes$/, ([, n]) => word("rejectLong", { n: count(Number(n)) })],
  [/^more than (\d+) ids$/, ([, n]) => word("rejectMany", { n: count(Number(n)) })],
];

function inWords(reason) {
  for (const [pattern, said] of REASONS) {
    const match = pattern.exec(reason);
    if (match) return said(match);
  }
  return reason;
}

/** { count, lines: [{ line, text }] } of a refusal that names lines; null of any other message. */
export function rejectedLines(message) {
  const whole = WHOLE.exec(message ?? "");
  if (!whole) return null;
  const parts = whole[2].split(/(?:^|; )line (\d+): /).slice(1);
  const lines = [];
  for (let i = 0; i < parts.length; i += 2) lines.push({ line: Number(parts[i]), text: inWords(parts[i + 1]) });
  return { count: Number(whole[1]), lines };
}
