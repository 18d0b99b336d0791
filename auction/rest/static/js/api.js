// Talks to the REST shim with the bearer token that the reader pasted.

const TOKEN_KEY = "fanbid.token";
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;

/** A request that failed: HTTP status (0: no answer), and the field that was wrong, if one was. */
export class RequestFailed extends Error {
  constructor(status, message, field = null) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY) || "",
  set: (value) => sessionStorage.setItem(TOKEN_KEY, value),
  clear: () => sessionStorage.removeItem(TOKEN_KEY),
  /** Take a token from the address (#token=...) and leave no trace of it there. */
  takeFromAddress() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      token.set(given);
      history.replaceState(null, "", location.pathname + location.search);
    }
  },
};

async function failureOf(response) {
  try {
    const { error } = await response.json();
    return new RequestFailed(response.status, error.message, error.field);
  } catch {
    return new RequestFailed(response.status, `HTTP ${response.status}`);
  }
}

async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${token.get()}` } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestFailed(0, "");
  }
  if (!response.ok) throw await failureOf(response);
  return response;
}

const json = (method, path, body, headers = {}) =>
  send(path, {
    method, headers: { "Content-Type": "application/json", ...headers }, body: body && JSON.stringify(body),
  }).then((response) => response.json());

/** How many viewers an audience holds: { low, high }. */
export const estimateReach = (audience) => json("POST", "/api/audiences/reach", audience);

/** Audiences of creators side by side: how large, what they share, how much of them is reached or won already. */
export const compareCreators = (question) => json("POST", "/api/audiences/creators", question);
/** Have a segment made of the viewers most like the members of another; answers at once how far it is. */
export const makeLookalike = (wanted) => json("POST", "/api/audiences/lookalikes", { ...wanted, wait: false });
/** How far the making of a lookalike is, and what became of it. */
export const lookalikeOf = (name) => json("GET", `/api/audiences/lookalikes/${encodeURIComponent(name)}`);
/** Empty a list, which takes it off the list of segments. */
export const deleteList = (name) => json("PUT", `/api/audiences/segments/${encodeURIComponent(name)}`, { change: "replace", viewer_ids: [] });
/** Replace a segment by the viewers of a CSV file, whole or not at all. */
export const uploadList = (name, file) =>
  send(`/api/audiences/lists/${encodeURIComponent(name)}`, { method: "PUT", headers: { "Content-Type": "text/csv" }, body: file }).then((response) => response.json());

/** Every segment that was uploaded or made; with a creator's token, this creator's lists. */
export async function segments() {
  const found = [];
  let after = "";
  do {
    const page = await json("GET", `/api/audiences/segments?page_size=1000&after=${encodeURIComponent(after)}`);
    found.push(...page.segments);
    after = page.next_after;
  } while (after);
  return found;
}

/** Creators with campaigns, of the oldest campaigns that the token may see. */
export const someCreators = () => json("GET", "/api/campaigns?page_size=200").then(({ campaigns }) => [...new Set(campaigns.map((one) => one.creator_id))]);

/** Every campaign that the token may see, and the creator that it stands for (null: an operator). */
export async function allCampaigns() {
  const found = [];
  let creatorId = null;
  let pageToken = "";
  do {
    const page = await json("GET", `/api/campaigns?page_size=200&page_token=${encodeURIComponent(pageToken)}`);
    found.push(...page.campaigns);
    creatorId = page.creator_id;
    pageToken = page.next_page_token;
  } while (pageToken);
  return { campaigns: found, creatorId };
}

/** Why no new money is granted now, as the engine says; null where it is, or where nobody answers. */
export const noGrants = () => send("/healthz").then((response) => response.json()).then((health) => health.no_grants ?? null, () => null);

export const createCampaign = (body, key) => json("POST", "/api/campaigns", body, { "Idempotency-Key": key });
export const changeCampaign = (id, body) => json("PATCH", `/api/campaigns/${id}`, body);
/** The statement of a campaign, whole, as a file for the browser to save. */
export const statementOf = (id) => send(`/api/campaigns/${id}/charges.csv`).then((response) => response.blob());
/** A creator's week or month with their fans; `creator` may be "self". */
export const healthOf = (creator, query) => send(`/api/creators/${creator}/health?${query}`).then((response) => response.json());
export const healthFileOf = (creator, query) => send(`/api/creators/${creator}/health.csv?${query}`).then((response) => response.blob());
export const changeStatus = (id, verb) => json("POST", `/api/campaigns/${id}/${verb}`);

/**
 * Watch reports until `stop` is called on the answer. Read with fetch, since EventSource cannot send the token.
 * on.report(report) for each; on.state("live" | "lost") as the connection comes and goes; on.refused(error) once, at the end.
 */
export function watch(ids, { hours, intervalMs }, on) {
  const aborter = new AbortController();
  const query = new URLSearchParams({ hours, interval_ms: intervalMs });
  ids.forEach((id) => query.append("campaign_id", id));
  (async () => {
    let retryMs = FIRST_RETRY_MS;
    while (!aborter.signal.aborted) {
      try {
        const response = await send(`/api/live?${query}`, { signal: aborter.signal });
        on.state("live");
        for await (const event of eventsOf(response.body)) {
          retryMs = FIRST_RETRY_MS;
          if (event.name === "report") on.report(JSON.parse(event.data));
        }
      } catch (error) {
        if (aborter.signal.aborted) return;
        if ([401, 403, 404, 422].includes(error.status)) {
          on.refused(error);
          return;
        }
      }
      if (aborter.signal.aborted) return;
      on.state("lost");
      await new Promise((done) => setTimeout(done, retryMs));
      retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
    }
  })();
  return { stop: () => aborter.abort() };
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const event = { name: "", data: "" };
      for (const line of text.slice(0, end).split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        else if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      text = text.slice(end + 2);
      if (event.name) yield event;
    }
  }
}
