// Numbers as people read them. Money stays whole micros until it is written.
import { language } from "./words.js";

const MICROS = 1_000_000;

/** How many decimals show two digits of an amount under a cent; 2 for all others. */
function decimalsOf(micros) {
  const size = Math.abs(micros);
  if (size < 0.5 || size >= MICROS / 100) return 2;
  if (size >= MICROS / 1_000) return 4;
  return size >= MICROS / 10_000 ? 5 : 6;
}

/** Micros of a currency as text, such as ¥12.30, or ¥0.0041 where cents would show nothing. */
export function money(micros, currency, decimals = decimalsOf(micros)) {
  return new Intl.NumberFormat(language(), {
    style: "currency", currency: currency || "CNY", currencyDisplay: "narrowSymbol",
    minimumFractionDigits: decimals, maximumFractionDigits: decimals,
  }).format(micros / MICROS);
}

/** Money that fits an axis: ¥1.2K. */
export function shortMoney(micros, currency) {
  const units = micros / MICROS;
  const size = Math.abs(units);
  return new Intl.NumberFormat(language(), {
    style: "currency", currency: currency || "CNY", currencyDisplay: "narrowSymbol", notation: "compact",
    minimumFractionDigits: 0, maximumFractionDigits: size >= 10 || size === 0 ? 1 : size >= 0.1 ? 2 : 6,
  }).format(units);
}

export const count = (n) => new Intl.NumberFormat(language()).format(n);

export const shortCount = (n) =>
  new Intl.NumberFormat(language(), { notation: "compact", maximumFractionDigits: 1 }).format(n);

/** A share as a percentage; a dash when there is nothing to divide by. */
export const percent = (part, whole) =>
  whole > 0
    ? new Intl.NumberFormat(language(), { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 })
      .format(part / whole)
    : "–";

/** Whole micros for each of `events`, rounded half up; null without events. */
export const eachMicros = (micros, events) => (events > 0 ? Math.floor(micros / events + 0.5) : null);

/** Cost per thousand impressions in micros, rounded half up; null without impressions. */
export const perThousandMicros = (micros, impressions) => eachMicros(micros * 1000, impressions);

/** An instant in a zone, such as "Mar 1, 14:00". */
export function instant(atMs, zone) {
  return new Intl.DateTimeFormat(language(), {
    timeZone: zone, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  }).format(atMs);
}

/** An instant as the reader's clock shows it, such as "14:03:09". */
export const clockTime = (atMs) =>
  new Intl.DateTimeFormat(language(), { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(atMs);

/** The local date of an instant in a zone, as a key that only equal dates share. */
const dayFormats = new Map();
export function dayKey(atMs, zone) {
  if (!dayFormats.has(zone)) {
    dayFormats.set(zone, new Intl.DateTimeFormat("en-CA", { timeZone: zone }));
  }
  return dayFormats.get(zone).format(atMs);
}

/** Text such as "3.25" as whole micros, exactly; null if it is no amount with at most six decimals. */
export function microsFromText(text) {
  const match = /^\s*(\d{1,9})(?:[.](\d{0,6}))?\s*$/.exec(text);
  return match ? Number(match[1]) * MICROS + Number((match[2] || "").padEnd(6, "0")) : null;
}

/** Micros as plain text for an input, such as "3.25". */
export function textFromMicros(micros) {
  const rest = String(micros % MICROS).padStart(6, "0").replace(/0+$/, "");
  return `${Math.floor(micros / MICROS)}${rest ? `.${rest}` : ""}`;
}
