// The page of lists: upload one, find viewers who are like its viewers, take either into a campaign.
import { deleteList, lookalikeOf, makeLookalike, segments, token, uploadList } from "./api.js";
import { rejectedLines } from "./rejected_lines.js";
import { el, setText } from "./dom.js";
import { LEAST_MEMBERS, MINE, creatorId, field, choice, isTooSmall, listNames, mark, problem, unmark } from "./fields.js";
import { count } from "./format.js";
import { askForToken, paintBar, say, wireBar } from "./page.js";
import { confirmDelete } from "./sheets.js";
import { language, word } from "./words.js";

const MAX_SIZE = 1_000_000;
const TICK_MS = 1_000;
const NOISE = 60; // viewers, 19 times in 20, on each figure of a creator's lookalike
const UNDER_WAY = "fanbid.lookalike"; // what was asked for and is not told yet, so that a page that is opened again goes on

const main = document.getElementById("main");
// Upload and lookalike: { busy, error, done }, and what was written into their forms, so that another language keeps it.
const fresh = () => ({ lists: null, upload: {}, like: {}, file: null, written: { size: "1000" } });
const desk = fresh();

const percent = (part) => new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 0 }).format(part);
const decimal = (n) => new Intl.NumberFormat(language(), { maximumFractionDigits: 1 }).format(n);

function signOut(reason = "") {
  token.clear();
  sessionStorage.removeItem(UNDER_WAY);
  Object.assign(desk, fresh());
  paintBar();
  say(reason, reason ? "bad" : "");
  askForToken(main, { title: word("audTitle"), text: word("audText"), submitText: word("show"), start: load });
}

async function load() {
  paintBar();
  main.replaceChildren(el("p", { class: "blank soft", role: "status", text: word("audLoading") }));
  try {
    const lists = await segments();
    if (!token.get()) return; // signed out meanwhile
    desk.lists = lists;
    const asked = JSON.parse(sessionStorage.getItem(UNDER_WAY) ?? "null");
    if (asked && !desk.like.busy) {
      work("like", desk.like, () => followed(asked));
      return;
    }
  } catch (error) {
    if (error.status === 401) {
      signOut(word("tokenRefused"));
      return;
    }
    desk.lists = null;
    desk.failure = error.message;
  }
  paint();
}

function paint() {
  if (!desk.lists) {
    main.replaceChildren(el(
      "section", { class: "blank", role: "alert", "data-testid": "load-failed" },
      el("p", { text: word("audFailed", { why: desk.failure || word("noAnswer") }) }), el("button", { class: "button primary", type: "button", text: word("again"), onClick: load }),
    ));
    return;
  }
  const at = document.activeElement;
  main.replaceChildren(el("div", { class: "lists", "data-testid": "lists" }, heading(), listsCard(), el("div", { class: "makers" }, uploadCard(), likeCard())));
  if (at?.name) goBackTo(at);
}

/** Whoever was writing when the page was drawn again goes on writing. */
function goBackTo({ name, selectionStart, selectionEnd }) {
  const input = main.querySelector(`[name="${name}"]`);
  input?.focus();
  if (input?.type === "text") input.setSelectionRange(selectionStart, selectionEnd);
}

const heading = () => el("header", {}, el("h1", { text: word("audTitle") }), el("p", { class: "soft", text: word("audText") }));

/** Do what was asked in a card, and tell what became of it; `start` says what is wrong at once, or answers with a promise. */
async function work(id, state, start) {
  Object.assign(state, { error: null, done: null });
  try {
    const under = start();
    state.busy = { since: Date.now() };
    paint();
    state.done = await under;
    if (desk.lists) desk.lists = await segments();
  } catch (error) {
    state.error = error;
    if (error.status === 401) {
      signOut(word("tokenRefused"));
      return;
    }
  }
  state.busy = null;
  if (!token.get()) return;
  paint();
  if (state.error?.input) mark(main.querySelector(`[data-testid=${id}] form`), state.error.input);
}

/** A card whose form keeps what is written into it, and tells below what became of it. */
function maker(id, title, help, state, parts, submitText, busyText, submit) {
  const go = el("button", { class: "button primary", type: "submit", disabled: Boolean(state.busy), text: state.busy ? busyText : submitText, "data-testid": `${id}-now` });
  const form = el("form", { novalidate: true, "aria-busy": String(Boolean(state.busy)) }, ...parts, go);
  form.addEventListener("input", ({ target }) => { if (target.type !== "file") desk.written[target.name] = target.value; });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    unmark(form);
    work(id, state, () => submit(form));
  });
  return el("section", { class: "card", "data-testid": id }, el("h2", { text: title }), el("p", { class: "small soft", text: help }), form, told(id, state));
}

function told(id, state) {
  const box = (kind, ...parts) => el("div", { class: `outcome ${kind}`, role: kind === "bad" ? "alert" : "status", "data-testid": `${id}-told` }, ...parts);
  if (state.busy) {
    if (id === "upload") return null;
    const text = el("span", {});
    const bar = el("progress", { max: 100, value: 0, "aria-label": word("audLike"), "data-testid": "like-progress" });
    const tick = () => {
      const done = state.busy?.percent ?? 0;
      bar.value = done;
      setText(text, word("audWorking", { percent: percent(done / 100), s: count(Math.floor((Date.now() - (state.busy?.since ?? Date.now())) / TICK_MS)) }));
    };
    tick();
    const timer = setInterval(() => (text.isConnected ? tick() : clearInterval(timer)), TICK_MS / 4);
    return box("", el("p", { class: "working" }, text), bar);
  }
  if (state.error) return box("bad", ...wrong(state.error));
  if (!state.done) return null;
  return box("good", ...(id === "upload" ? uploaded(state.done) : quality(state.done)));
}

function uploaded({ segment_id: name, members, left_out: leftOut }) {
  const lines = [word("audUploaded", { name, n: count(members) })];
  if (leftOut) lines.push(word("audLeftOut", { n: count(leftOut) }));
  return [...lines.map((text) => el("p", { text })), use(name, "button")];
}

/** What is wrong, and of a list which lines. */
function wrong(error) {
  const rejected = rejectedLines(error.message);
  if (!rejected) return [el("p", { text: error.message || word("noAnswer") })];
  const lines = rejected.lines.map(({ line, text }) => el("li", { "data-testid": "rejected" }, el("strong", { text: word("audLine", { line: count(line) }) }), `: ${text}`));
  const more = rejected.count - lines.length;
  return [
    el("p", {}, el("strong", { text: word("audRejected", { n: count(rejected.count) }) })),
    el("ul", { class: "rejected" }, ...lines, more > 0 ? el("li", { text: word("audMore", { n: count(more) }) }) : null),
  ];
}

/** How good a lookalike is, in plain words; `since` tells what became of a later one that is not in force. */
function quality({ segment_id: name, seed_segment_id: list, size, members, seeds, held_out: held, recall, activity_recall: activity, learned, since }) {
  const lines = [word(list ? "audMade" : "audMadeBefore", { name, list, n: count(members), seeds: count(seeds) })];
  if (since) lines.unshift(since);
  if (members < size) lines.push(word("audFewer", { n: count(size) }));
  if (!learned) lines.push(word("audUnlearned"));
  if (held) {
    lines.push(word("audQuality", { held: count(held), seeds: count(seeds), found: count(Math.round(recall * held)), recall: percent(recall), active: count(Math.round(activity * held)), activity: percent(activity) }));
    if (recall <= activity) lines.push(word("audNoBetter"));
    else lines.push(activity ? word("audBetter", { ratio: decimal(recall / activity) }) : word("audBest"));
    if (MINE.test(name)) lines.push(word("audNoisy", { n: percent(NOISE / held) }));
  } else lines.push(word("audUnmeasured"));
  return [...lines.map((text) => el("p", { text })), use(name, "button")];
}

const use = (name, style) => el("a", { class: style, href: `/?list=${encodeURIComponent(name)}`, text: word("audUse"), "data-testid": `use-${name}` });

function uploadCard() {
  const shown = el("span", { class: "small soft", "data-testid": "file-name", text: desk.file?.name ?? word("audNoFile") });
  const input = el("input", { type: "file", name: "file", accept: ".csv,.txt,text/csv,text/plain", "data-testid": "field-file" });
  input.addEventListener("change", () => {
    desk.file = input.files[0] ?? desk.file;
    setText(shown, desk.file?.name ?? word("audNoFile"));
  });
  const parts = [
    field("list_name", word("audName"), { maxlength: 64, value: desk.written.list_name ?? "" }, word("audNameHelp")),
    el("label", { class: "file field" }, input, el("span", { class: "button", text: word("audFile") }), shown),
  ];
  return maker("upload", word("audUpload"), word("audUploadHelp"), desk.upload, parts, word("audUploadNow"), word("audUploading"), (form) => {
    const name = nameIn(form, "list_name");
    if (!desk.file) throw problem(word("audNeedFile"), "file");
    return uploadList(name, desk.file);
  });
}

function likeCard() {
  const lists = [["", word("audPick")], ...desk.lists.filter((one) => !one.is_lookalike && !isTooSmall(one)).map((one) => [one.segment_id, `${one.segment_id} (${count(one.members)})`])];
  const { written } = desk;
  const parts = [
    choice("seeds", word("audSeeds"), lists, written.seeds ?? ""),
    field("size", word("audSize"), { inputmode: "numeric", maxlength: 9, value: written.size }),
    field("like_name", word("audLikeName"), { maxlength: 64, value: written.like_name ?? "" }, word("audNameHelp")),
    field("followers_of", word("audFollowers"), { inputmode: "numeric", maxlength: 20, value: written.followers_of ?? "" }),
  ];
  return maker("like", word("audLike"), word("audLikeHelp"), desk.like, parts, word("audLikeNow"), word("audLikeNow"), (form) => {
    const seeds = form.elements.seeds.value;
    if (!seeds) throw problem(word("audNeedSeeds"), "seeds");
    const size = Number(form.elements.size.value.trim().replaceAll(/[,，]/g, ""));
    if (!Number.isInteger(size) || size < 1 || size > MAX_SIZE) throw problem(word("audBadSize"), "size");
    const of = creatorId(form, "followers_of");
    const wanted = { segment_id: nameIn(form, "like_name"), seed_segment_id: seeds, size, ...(of ? { creator_id: of } : {}) };
    return begun(wanted);
  });
}

/** Have a lookalike made, and wait for it; what is asked for is kept until it is told. */
async function begun(wanted) {
  await makeLookalike(wanted);
  sessionStorage.setItem(UNDER_WAY, JSON.stringify(wanted));
  return followed(wanted);
}

/** Wait until a lookalike is made, telling how far it is; while nobody answers, ask on. */
async function followed(wanted) {
  for (;;) {
    let told = null;
    try {
      told = await lookalikeOf(wanted.segment_id);
    } catch (error) {
      if (error.status) {
        sessionStorage.removeItem(UNDER_WAY);
        throw error;
      }
    }
    if (told && told.state !== "making") {
      sessionStorage.removeItem(UNDER_WAY);
      if (told.state === "failed") throw new Error(told.error);
      return { ...wanted, ...told.made, segment_id: told.segment_id };
    }
    if (told && desk.like.busy) desk.like.busy.percent = told.done_percent;
    await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    if (!token.get()) throw new Error("");
  }
}

/** Tell how good a lookalike is that was made before. */
async function tellQuality(name) {
  desk.like.error = desk.like.done = null;
  try {
    const told = await lookalikeOf(name);
    if (!told.made) throw new Error(told.error || word("audNotTold"));
    const since = told.state === "failed" ? word("audLastFailed", { why: told.error }) : "";
    desk.like.done = { ...told.made, segment_id: name, since };
  } catch (error) {
    desk.like.error = error.status === 404 ? new Error(word("audNotTold")) : error;
  }
  paint();
  main.querySelector("[data-testid=like-told]")?.scrollIntoView({ block: "nearest" });
}

async function remove(name) {
  if (!(await confirmDelete(name))) return;
  try {
    await deleteList(name);
    desk.lists = await segments();
    if (desk.upload.done?.segment_id === name) desk.upload.done = null;
    if (desk.like.done?.segment_id === name) desk.like.done = null;
    say(word("audDeleted", { name }), "good");
  } catch (error) {
    if (error.status === 401) {
      signOut(word("tokenRefused"));
      return;
    }
    say(error.message || word("noAnswer"), "bad");
  }
  paint();
}

/** The one name that is written; the engine says what is reserved. */
function nameIn(form, input) {
  const names = listNames(form, input);
  if (names.length !== 1) throw problem(word("badList"), input);
  return names[0];
}

/** What can be done with a list. A creator's own may be deleted. */
function doings(one) {
  const { segment_id: name, is_lookalike: isLookalike } = one;
  const button = (id, text, onClick) => el("button", { class: "text-button", type: "button", text: word(text), onClick, "data-testid": `${id}-${name}` });
  return [
    isTooSmall(one) ? el("span", { class: "small soft", "data-testid": `small-${name}`, text: word("audTooSmall", { n: count(LEAST_MEMBERS) }) }) : use(name, "text-button"),
    isLookalike && !desk.like.busy ? button("quality", "audHowGood", () => tellQuality(name)) : null,
    MINE.test(name) ? button("delete", "audDelete", () => remove(name)) : null,
  ];
}

function listsCard() {
  const head = ["audName", "cmpViewers", "audKind"].map((name) => el("th", { text: word(name), scope: "col" }));
  const rows = desk.lists.map((one) => el(
    "tr", { "data-testid": "list", "data-name": one.segment_id, "data-members": one.members },
    el("td", {}, el("div", { class: "listed" }, el("span", { text: one.segment_id }), el("div", { class: "doings" }, ...doings(one)))), el("td", { text: count(one.members) }), el("td", { text: word(one.is_lookalike ? "audKindLike" : "audKindList") }),
  ));
  const table = el("div", { class: "table-frame" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)));
  return el("section", { class: "card" }, el("h2", { text: word("audHave") }), rows.length ? table : el("p", { class: "soft", text: word("audNone") }));
}

wireBar({
  repaint() {
    paintBar();
    if (!token.get()) signOut();
    else paint();
  },
  signOut: () => signOut(),
});
token.takeFromAddress();
paintBar();
if (token.get()) load();
else signOut();
