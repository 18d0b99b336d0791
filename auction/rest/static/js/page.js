// What every page has: its bar with language and theme, its notice, and the form that asks for the token.
import { token } from "./api.js";
import { el, setText } from "./dom.js";
import { language, switchLanguage, word } from "./words.js";

const NOTICE_MS = 9_000;
let noticeTimer = 0;

export function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Write the bar in the present language. */
export function paintBar() {
  document.documentElement.lang = language();
  document.querySelectorAll("[data-word]").forEach((node) => setText(node, word(node.dataset.word)));
  setText(document.getElementById("language"), word("otherLanguage"));
  setText(document.getElementById("theme"), word(isDark() ? "light" : "dark"));
  document.getElementById("sign-out").hidden = !token.get();
}

/** Say something above the page, or nothing any more; of kind "good" it goes away by itself. */
export function say(text, kind = "") {
  const notice = document.getElementById("notice");
  clearTimeout(noticeTimer);
  notice.className = `notice ${kind}`;
  notice.textContent = text;
  notice.hidden = !text;
  if (text && kind === "good") noticeTimer = setTimeout(() => say(""), NOTICE_MS);
}

/** Have the bar's buttons work: `repaint` draws the page again, `signOut` forgets who reads it. */
export function wireBar({ repaint, signOut }) {
  document.getElementById("language").addEventListener("click", () => {
    switchLanguage();
    say("");
    repaint();
  });
  document.getElementById("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("fanbid.theme", theme);
    repaint();
  });
  document.getElementById("sign-out").addEventListener("click", () => signOut());
}

/** Ask for the token in `main`; `start` is called once there is one. */
export function askForToken(main, { title, text = null, submitText, start }) {
  const input = el("input", { type: "password", name: "token", autocomplete: "off", required: true, "data-testid": "token-input" });
  const form = el(
    "form", {},
    el("label", { class: "field" }, el("span", { text: word("token") }), input, el("span", { class: "field-help", text: word("tokenHelp") })),
    el("button", { class: "button primary", type: "submit", text: submitText, "data-testid": "token-submit" }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    token.set(input.value.trim());
    say("");
    start();
  });
  main.replaceChildren(el("section", { class: "card welcome", "data-testid": "welcome" }, el("img", { src: "/static/mark.svg", alt: "", width: 56, height: 56 }), el("h1", { text: title }), text && el("p", { class: "soft", text }), form));
  input.focus();
}
