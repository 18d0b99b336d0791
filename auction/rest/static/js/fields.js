// Fields of forms, and what was written into them; what is wrong names its input.
import { el } from "./dom.js";
import { microsFromText } from "./format.js";
import { codesOf, nameOf } from "./vocabulary.js";
import { word } from "./words.js";

export const MAX_CREATORS = 16;
export const ID = /^[1-9]\d{0,19}$/;
const LIST_NAME = /^[a-z0-9:_.-]{1,64}$/;

/** An error that belongs to the input of this name. */
export function problem(text, input) {
  return Object.assign(new Error(text), { input });
}

/** Mark the input that an error is about, and go to it. */
export function mark(form, name) {
  const input = name && form.elements[name];
  if (!input) return;
  input.closest(".field")?.removeAttribute("hidden");
  input.setAttribute("aria-invalid", "true");
  input.closest("details")?.setAttribute("open", "");
  input.focus();
}

export function unmark(form) {
  form.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
}

export function field(name, label, properties = {}, help = null) {
  const { tag = "input", ...rest } = properties;
  return el(
    "label", { class: "field", hidden: rest.hideField }, el("span", { text: label }),
    el(tag, { name, autocomplete: "off", "data-testid": `field-${name}`, ...rest, hideField: null }),
    help && el("span", { class: "field-help", text: help }),
  );
}

/** A field that offers a choice: [value, text] each. */
export function choice(name, label, options, value, help = null) {
  const node = field(name, label, { tag: "select" }, help);
  node.querySelector("select").append(...options.map(([each, text]) => el("option", { value: each, text, selected: String(each) === String(value) })));
  return node;
}

export const chip = (name, value, text, type = "checkbox", why = null, checked = false) =>
  el("label", { class: "chip" }, el("input", { type, name, value, checked }), el("span", { text }, why && el("small", { text: why })));

export const chips = (legend, className, ...nodes) => el("fieldset", {}, el("legend", { text: legend }), el("div", { class: className }, ...nodes));

export const codeChips = (dimension, className = "chips") => chips(word(dimension), className, ...codesOf(dimension).map((code) => chip(dimension, code, nameOf(dimension, code))));

export const chosen = (form, name) => [...form.querySelectorAll(`[name="${name}"]:checked`)].map((input) => input.value);

export function amount(form, name) {
  const micros = microsFromText(form.elements[name].value);
  if (micros === null) throw problem(word("badAmount"), name);
  return micros;
}

export function whole(form, name) {
  const text = form.elements[name].value.trim();
  if (text === "") return 0;
  if (!/^\d{1,9}$/.test(text)) throw problem(word("badNumber"), name);
  return Number(text);
}

/** Texts that commas of either language separate, each once. */
export const textsOf = (form, name) => [...new Set(form.elements[name].value.split(/[,，、\n]/).map((text) => text.trim()).filter(Boolean))];

/** Numbers of creators, each once. */
export function creatorIds(form, name) {
  const ids = [...new Set(form.elements[name].value.split(/[\s,，、]+/).filter(Boolean))];
  if (ids.length > MAX_CREATORS || ids.some((id) => !ID.test(id))) throw problem(word("badCreators"), name);
  return ids;
}

/** A creator's number; empty if none is written. */
export function creatorId(form, name) {
  const id = form.elements[name].value.trim();
  if (id && !ID.test(id)) throw problem(word("badNumber"), name);
  return id;
}

/** Names of lists, each once. */
export function listNames(form, name) {
  const names = [...new Set(form.elements[name].value.split(/[\s,，、]+/).filter(Boolean))];
  if (names.some((each) => !LIST_NAME.test(each))) throw problem(word("badList"), name);
  return names;
}

export const MINE = /^own:/; // the name of a list of a creator's own
export const LEAST_MEMBERS = 1_000; // of such a list, or the engine refuses to use it
export const isTooSmall = ({ segment_id: name, members }) => MINE.test(name) && members < LEAST_MEMBERS;
