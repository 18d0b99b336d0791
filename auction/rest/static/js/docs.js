// Draws /openapi.json as a page, with a way to try each call; nothing comes from another host.
import { token } from "./api.js";
import { el } from "./dom.js";

const main = document.getElementById("main");
const MAX_DEPTH = 6;

const refName = (schema) => schema.$ref?.split("/").pop();

/** Text in which `code` stands between backticks, as nodes. */
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", { text: part }) : part));

/** A schema as an outline: fields, types and ranges. */
function outline(schema, schemas, depth = 0, open = []) {
  const name = refName(schema);
  if (name) return open.includes(name) || depth > MAX_DEPTH ? name : outline(schemas[name], schemas, depth, [...open, name]);
  const options = schema.anyOf?.filter((option) => option.type !== "null");
  if (options) return options.map((option) => outline(option, schemas, depth, open)).join(" | ");
  if (schema.enum || schema.const !== undefined) return (schema.enum ?? [schema.const]).map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `[ ${outline(schema.items, schemas, depth, open)}, … ]${range(schema)}`;
  if (schema.type === "object" && schema.properties) {
    const pad = "  ".repeat(depth + 1);
    const lines = Object.entries(schema.properties).map(([key, value]) => {
      const must = schema.required?.includes(key) ? "" : "?";
      const note = value.description ? `   // ${value.description.replaceAll("`", "")}` : "";
      return `${pad}${key}${must}: ${outline(value, schemas, depth + 1, open)}${note}`;
    });
    if (!lines.length) return "{}";
    return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  return `${schema.type ?? "any"}${range(schema)}`;
}

function range(schema) {
  const low = schema.minimum ?? schema.minLength ?? schema.minItems;
  const high = schema.maximum ?? schema.maxLength ?? schema.maxItems;
  if (low !== undefined || high !== undefined) return ` (${low ?? ""}..${high ?? ""})`;
  return schema.pattern ? ` (${schema.pattern})` : "";
}

function shape(title, schema, schemas) {
  return [el("h3", { text: title }), el("pre", { class: "shape", tabindex: 0, text: outline(schema, schemas) })];
}

/** What a call's body is: its media type and schema, and an example as text; null without a body. */
function bodyOf(operation, schemas) {
  const [type, media] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  if (!type) return null;
  const isJson = type === "application/json";
  const example = media.example ?? schemas[refName(media.schema)]?.example ?? {};
  return { type, schema: media.schema, name: isJson ? "JSON" : type, example: isJson ? JSON.stringify(example, null, 2) : String(example) };
}

function parametersTable(parameters, schemas) {
  const rows = parameters.map((p) => el(
    "tr", {}, el("td", {}, el("code", { text: p.name })), el("td", { text: p.in + (p.required ? ", required" : "") }),
    el("td", { text: outline(p.schema, schemas) }), el("td", {}, ...prose(p.description ?? p.schema.description ?? "")),
  ));
  const head = ["Parameter", "Where", "Type", "Meaning"].map((text) => el("th", { text }));
  return el("div", { class: "table-frame" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)));
}

function responsesTable(responses) {
  const rows = Object.entries(responses).map(([status, answer]) => el("tr", {}, el("td", {}, el("code", { text: status })), el("td", {}, ...prose(answer.description))));
  return el("div", { class: "table-frame" }, el("table", {}, el("tbody", {}, ...rows)));
}

/** A form that makes the call with the token of this tab. */
function tryForm(verb, path, operation, schemas) {
  const parameters = operation.parameters ?? [];
  const inputs = parameters.map((p) => ({ parameter: p, input: el("input", { autocomplete: "off", placeholder: p.required ? "" : "(left out)" }) }));
  const told = bodyOf(operation, schemas);
  const body = told && el("textarea", { spellcheck: "false" });
  if (body) body.value = told.example;
  const answer = el("pre", { class: "shape", tabindex: 0, hidden: true, "data-testid": "answer" });
  const bearer = el("input", { type: "password", autocomplete: "off" });
  bearer.value = token.get();
  const form = el(
    "form", { class: "try" }, el("label", { text: "Access token" }, bearer),
    ...inputs.map(({ parameter, input }) => el("label", { text: parameter.name }, input)),
    body && el("label", { text: `Body (${told.name})` }, body),
    el("button", { class: "button primary", type: "submit", text: "Send" }), answer,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    token.set(bearer.value.trim());
    const query = new URLSearchParams();
    const headers = { Authorization: `Bearer ${token.get()}` };
    let url = path;
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "" && parameter.in === "query") input.value.split(",").forEach((value) => query.append(parameter.name, value.trim()));
      else if (input.value !== "") headers[parameter.name] = input.value;
    }
    if (body) headers["Content-Type"] = told.type;
    answer.hidden = false;
    answer.textContent = "…";
    try {
      const response = await fetch(query.size ? `${url}?${query}` : url, { method: verb.toUpperCase(), headers, body: body?.value });
      const text = await response.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
      answer.textContent = `${response.status}\n${shown}`;
    } catch {
      answer.textContent = "The server does not answer.";
    }
  });
  return form;
}

function call(verb, path, operation, schemas) {
  const success = Object.entries(operation.responses).find(([status]) => status.startsWith("2"))[1];
  const answerSchema = success.content?.["application/json"]?.schema;
  const bodySchema = bodyOf(operation, schemas)?.schema;
  const isStream = Boolean(success.content?.["text/event-stream"]);
  return el(
    "details", { class: "card call", "data-testid": "call" },
    el("summary", {}, el("span", { class: "verb", "data-verb": verb, text: verb.toUpperCase() }), el("code", { class: "path", text: path }), el("span", { class: "soft" }, ...prose(operation.description ?? operation.summary))),
    el(
      "div", { class: "call-body" },
      operation.parameters ? parametersTable(operation.parameters, schemas) : null,
      ...(bodySchema ? shape("Body", bodySchema, schemas) : []),
      ...(answerSchema && Object.keys(answerSchema).length ? shape("Answer", answerSchema, schemas) : []),
      el("h3", { text: "Statuses" }), responsesTable(operation.responses),
      ...(isStream ? [el("p", { class: "soft", text: `Read it with: curl -N -H "Authorization: Bearer TOKEN" "${location.origin}${path}?campaign_id=1"` })]
        : [el("h3", { text: "Try it" }), tryForm(verb, path, operation, schemas)]),
    ),
  );
}

async function draw() {
  const api = await (await fetch("/openapi.json")).json();
  const schemas = api.components.schemas;
  const groups = new Map();
  for (const [path, verbs] of Object.entries(api.paths)) {
    for (const [verb, operation] of Object.entries(verbs)) {
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(call(verb, path, operation, schemas));
    }
  }
  main.replaceChildren(el("h1", { text: "REST API" }), el("p", { class: "soft" }, ...prose(api.info.description)));
  for (const [tag, calls] of groups) main.append(el("h2", { text: tag }), ...calls);
}

draw().catch(() => main.replaceChildren(el("p", { role: "alert", text: "The description of the API could not be loaded. Please reload the page." })));
