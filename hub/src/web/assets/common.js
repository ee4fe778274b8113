// What all pages share: asking the hub, showing values, and keeping tables. Text goes into pages as text only.

/** Asks the REST interface; sends to the sign-in page whoever is not signed in. */
export async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (answer.status === 401) { location.assign("/login"); throw new Error("not signed in"); }
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail ?? body.title), { code: body.code });
  return body;
}

/** Makes an element: a tag with classes (`td.number`), then children: texts and elements. */
export function make(what, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const find = (id) => document.getElementById(id);

/** Replaces an element's children only where they differ: nothing blinks, selections stay. */
export function fill(element, ...children) {
  const fresh = make("div", ...children);
  if (element.innerHTML !== fresh.innerHTML) element.replaceChildren(...fresh.childNodes);
}

export function notice(text) {
  const place = find("notice");
  place.textContent = text ?? "";
  place.hidden = !text;
}

export function live(state) {
  const place = find("live");
  place.className = `live ${state}`;
  place.textContent = { on: "live", off: "reconnecting" }[state] ?? state;
}

/** `0x5aAe…eAed` for people; the whole address is in the title. */
export function address(text) {
  const element = make("span.mono", `${text.slice(0, 6)}…${text.slice(-4)}`);
  element.title = text;
  return element;
}

/** An amount with at most four decimal places; the exact one is in the title. */
export function amount(text) {
  const [whole, rest = ""] = text.split(".");
  const shown = rest.slice(0, 4).replace(/0+$/, "");
  const tiny = text !== "0" && whole === "0" && !shown;
  const element = make("span", tiny ? "< 0.0001" : shown ? `${whole}.${shown}` : whole);
  element.title = `${text} SNM`;
  return element;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count >= 100 || Number.isInteger(count) ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? `${s % 60} s` : ""}`.trim();
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d`;
}

const TONES = {
  succeeded: "good", accepted: "good", trusted: "good", online: "good",
  running: "busy", offered: "busy", committed: "busy", revealed: "busy", probation: "busy", draining: "busy", late: "busy", "not-revealed": "bad",
  failed: "bad", wrong: "bad", quarantined: "bad", revoked: "bad", lost: "bad", refused: "bad",
  surplus: "void", void: "void",
};
export const tone = (word) => TONES[word] ?? "wait";
export const badge = (word, kind = tone(word)) => make(`span.badge.${kind}`, word);

/** A bar of parts, each `[tone, share of 1]`. */
export function bar(parts, className = "progress") {
  const element = make(`div.${className}`);
  for (const [kind, share] of parts) {
    const part = make(`i.${kind}`);
    part.style.width = `${(100 * share).toFixed(2)}%`;
    element.append(part);
  }
  return element;
}

export function progress(counts, className) {
  const share = (count) => count / Math.max(1, counts.total);
  const element = bar([["good", share(counts.succeeded)], ["busy", share(counts.running)], ["bad", share(counts.failed)]], className);
  element.title = `${counts.succeeded} verified, ${counts.running} running, ${counts.queued} queued, ${counts.failed} failed, ${counts.cancelled} cancelled`;
  return element;
}

export function figure(label, value, more) {
  return make("div.figure", make("b", value, more ? make("small", ` ${more}`) : ""), make("span", label));
}

/** The rows of a table by key, in an order; a row is built anew only when its thing has changed. */
export function rows(table, things, key, build) {
  const body = table.tBodies[0];
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const fresh = things.map((thing) => {
    const row = build(thing);
    row.dataset.key = key(thing);
    const before = old.get(row.dataset.key);
    if (before && before.innerHTML === row.innerHTML) return before;
    return row;
  });
  const same = fresh.length === body.rows.length && fresh.every((row, place) => row === body.rows[place]);
  if (!same) body.replaceChildren(...fresh);
}

/** Calls `draw` soon, once for however many changes. */
export function soon(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; draw(); }, 120);
  };
}

/** Follows a stream of changes. `again` fetches everything anew after a gap. */
export function follow(path, onChange, again) {
  const source = new EventSource(path);
  let broke = false;
  source.onopen = () => { live("on"); if (broke) again(); broke = false; };
  source.onerror = () => { live("off"); broke = true; };
  source.addEventListener("change", (event) => onChange(JSON.parse(event.data)));
  source.addEventListener("lagged", again);
  return source;
}

find("logout")?.addEventListener("click", async () => {
  await fetch("/logout", { method: "POST" });
  location.assign("/login");
});

// A link with a token signs in anew, also where somebody is signed in already; it never stays in the address.
function signInByLink() {
  if (location.hash.startsWith("#token=") && location.pathname !== "/login") location.replace(`/login${location.hash}`);
}
signInByLink();
addEventListener("hashchange", signInByLink);
