// The page of `notifyctl ui`. It asks the server for the counts, the groups and the metrics while it is visible, and shows what
// it gets as text: nothing that comes from a notification is ever read as HTML.

"use strict";

const LOCAL_MS = 1000;
const AWS_MS = 10000;
/** A notification that has been pending for this long needs attention, as for `notifyctl groups`. */
const PENDING_MS = 5 * 60 * 1000;

/** The secret after the # of the address. It is kept for a reload of this tab only. */
const hasToken = () => /^#[0-9a-f]{32}$/.test(location.hash);
if (hasToken()) {
  sessionStorage.setItem("token", location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem("token") ?? "";
// The address of another start, in the same tab.
addEventListener("hashchange", () => hasToken() && location.reload());

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

/** What the page knows. */
const seen = {
  flow: null,
  /** The last count of DONE, and the time of its reading. */
  done: null,
  groups: "",
  decision: null,
};

// ---- the server ------------------------------------------------------------------------------------------------------

async function ask(path, body) {
  const options = { headers: { "x-notifyctl-token": token }, cache: "no-store" };
  if (body) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(answer.error);
  }
  return answer;
}

// ---- the document ----------------------------------------------------------------------------------------------------

/** Makes an element. Children are elements or text. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Sets a text, only if it changed: a screen reader speaks each change. */
function say(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function complain(error) {
  const text = error instanceof TypeError ? "notifyctl does not answer: has it ended?" : error.message;
  say($("problem"), text);
  $("problem").hidden = false;
}

function plural(count, noun) {
  return `${number.format(count)} ${noun}${count === 1 ? "" : "s"}`;
}

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

// ---- flow ------------------------------------------------------------------------------------------------------------

const all = (queue) => queue.visible + queue.in_flight + queue.delayed;

/** The notifications of a status; undefined where that is not counted. */
function counted(flow, status) {
  return flow.summary.notifications[status] ?? (flow.summary.notifications.PENDING === undefined ? 0 : undefined);
}

function showFlow(flow) {
  const { summary } = flow;
  const pending = summary.notifications.PENDING ?? counted(flow, "INIT") + counted(flow, "CLAIMED");
  const counts = {
    queue: all(summary.queue),
    dead_letter_queue: all(summary.dead_letter_queue),
    pending,
    publisher_failures: all(summary.publisher_failures),
    downstream_failures: all(summary.downstream_failures),
    FAILED: summary.notifications.FAILED ?? 0,
    IN_DOUBT: summary.notifications.IN_DOUBT ?? 0,
  };
  const done = counted(flow, "DONE");
  if (done !== undefined) {
    counts.DONE = done;
    noteDone(done, Date.parse(flow.at), flow.is_local);
  }
  for (const element of document.querySelectorAll("[data-count]")) {
    const name = element.dataset.count;
    if (name in counts) {
      say(element, number.format(counts[name]));
      element.classList.toggle("bad", counts[name] > 0 && !["queue", "pending", "DONE", "IN_DOUBT"].includes(name));
      element.classList.toggle("doubt", counts[name] > 0 && name === "IN_DOUBT");
    }
  }
  const age = flow.oldest_pending ? Date.parse(flow.at) - Date.parse(flow.oldest_pending) : 0;
  note("queue", `${number.format(summary.queue.in_flight)} of them in flight`);
  note("pending", pending ? `pending; the oldest for ${span(age)}` : "pending");
  say($("stack"), flow.stack);
  const mode = flow.allows_changes ? "changes allowed" : "read-only";
  say($("mode"), `${flow.is_local ? "local stack" : "AWS"}, ${mode}`);
  say($("reading"), `Read at ${flow.at.slice(11, 19)} UTC, with ${plural(Math.round(summary.read_units), "read unit")}. ` +
    "SQS’s counts are approximate, and the table’s indexes lag a little behind it.");
  $("count-all").hidden = flow.is_local;
  $("trouble").hidden = !flow.is_local;
  showVerdict(counts, age);
}

function note(name, text) {
  say(document.querySelector(`[data-note="${name}"]`), text);
}

/** Notes a count of DONE. The rate is the difference to the count before. */
function noteDone(done, at, isLive) {
  const before = seen.done;
  seen.done = { done, at };
  if (!isLive) {
    note("done", `DONE at ${new Date(at).toISOString().slice(11, 19)} UTC`);
  } else if (before && at > before.at) {
    const rate = Math.max(0, ((done - before.done) * 1000) / (at - before.at));
    note("done", `${number.format(Math.round(rate))} DONE per second`);
  }
}

function showVerdict(counts, age) {
  const parts = [];
  const add = (count, text) => count && parts.push(`${number.format(count)} ${text}`);
  add(counts.FAILED, "FAILED");
  add(counts.IN_DOUBT, "IN_DOUBT");
  add(counts.dead_letter_queue, "in the dead-letter queue");
  add(counts.publisher_failures, "given up after publisher");
  add(counts.downstream_failures, "given up after downstream");
  if (age > PENDING_MS) parts.push(`pending for ${span(age)}`);
  const isGood = parts.length === 0;
  say($("verdict"), isGood ? "Nothing needs attention." : `Needs attention: ${parts.join(", ")}.`);
  $("verdict").className = isGood ? "good" : "bad";
}

/** How each unit of a figure is shown. */
const UNITS = {
  count: (value) => number.format(value),
  seconds: (value) => span(value * 1000),
  milliseconds: (value) => (value < 1000 ? `${Math.round(value)} ms` : value < 120000 ? `${(value / 1000).toFixed(1)} s` : span(value)),
};

const minuteOf = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);

/** Shows the metrics: of the last minute that CloudWatch has, or of an earlier one, which is then named. */
function showMetrics({ figures, error }) {
  const last = Math.max(0, ...Object.values(figures).map((minute) => minute.at));
  for (const element of document.querySelectorAll("[data-figure]")) {
    const minute = figures[element.dataset.figure];
    const earlier = minute && minute.at < last ? ` (${minuteOf(minute.at)})` : "";
    say(element, minute ? UNITS[element.dataset.unit](minute.value) + earlier : "–");
  }
  const source = last ? `Latencies, lags and counts per minute are CloudWatch’s, of the minute from ${minuteOf(last)} UTC.`
    : "CloudWatch has no latencies, lags or counts of the last 15 minutes.";
  say($("measured"), error ? `CloudWatch cannot be read: ${error}.` : `${source} – means no data.`);
}

// ---- attention -------------------------------------------------------------------------------------------------------

/** What can be decided about a group, by its state. */
const DECISIONS = {
  PENDING: [],
  FAILED: [{ what: "redrive", button: "Run again", verb: "Run", suffix: " again", warning: "If the cause is not fixed, they fail again." }],
  IN_DOUBT: [
    { what: "resolve_done", button: "It happened", verb: "Make", suffix: " DONE", warning: "Ask the receiver first: their effects must have happened." },
    { what: "resolve_retry", button: "It did not", verb: "Run", suffix: " again", warning: "Ask the receiver first: an effect that has happened would happen twice." },
  ],
};

const HEADS = ["Count", "Status", "Reason", "Stage", "Type", "Since", "Example", ""];

function showGroups(groups) {
  // Rebuilt only if something changed, so that the focus stays where it is.
  const text = JSON.stringify([groups, seen.flow?.allows_changes]);
  if (text === seen.groups) return;
  seen.groups = text;
  const focused = document.activeElement?.dataset?.key;
  if (groups.length === 0) {
    $("groups").replaceChildren(make("p", { class: "none" }, "No notification is FAILED, IN_DOUBT or pending for 5 minutes."));
    return;
  }
  const heads = HEADS.map((head) => make("th", head === "Count" ? { scope: "col", class: "number" } : { scope: "col" }, head || "Decide"));
  const table = make("table", { "aria-labelledby": "attention-title" },
    make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...groups.map(row)));
  $("groups").replaceChildren(table);
  const again = focused && [...table.querySelectorAll("button")].find((button) => button.dataset.key === focused);
  if (again) again.focus();
}

function row(group) {
  const example = make("button", { type: "button", class: "link", "data-key": `example ${group.group}` }, group.example);
  example.addEventListener("click", () => show(group.example));
  const list = make("button", { type: "button", class: "link", "data-key": `ids ${group.group}`, "aria-label":
    `List the ids of ${plural(group.count, "notification")} ${group.status}, ${group.reason_code ?? "no reason"}` }, number.format(group.count));
  list.addEventListener("click", () => listIds(group.group));
  const cells = [
    make("td", { class: "number" }, list),
    make("td", { class: `state ${group.status}` }, group.status),
    make("td", {}, group.reason_code ?? "not noted"),
    make("td", {}, group.stage),
    make("td", { class: "long" }, group.type ?? "–"),
    make("td", {}, `${group.first_seen.slice(0, 19).replace("T", " ")}`),
    make("td", { class: "long" }, example),
    make("td", {}, make("span", { class: "actions" }, ...decisions(group))),
  ];
  cells.forEach((cell, place) => cell.setAttribute("data-head", HEADS[place] || "Decide"));
  return make("tr", { "data-group": group.group }, ...cells);
}

function decisions(group) {
  const possible = DECISIONS[group.status];
  if (possible.length === 0) return ["retried by itself"];
  if (!seen.flow?.allows_changes) return ["read-only"];
  return possible.map((decision) => {
    const name = `${decision.button}: ${plural(group.count, "notification")} ${group.status}, ${group.reason_code ?? "no reason"}`;
    const button = make("button", { type: "button", "aria-label": name, "data-key": `${decision.what} ${group.group}` }, `${decision.button} …`);
    button.addEventListener("click", () => plan(group, decision));
    return button;
  });
}

/** Lists a page of the ids of a group. Each opens its notification. */
async function listIds(group, after) {
  try {
    const query = new URLSearchParams(after ? { group, after } : { group });
    const { notifications, next } = await ask(`api/ids?${query}`);
    const items = notifications.map(({ id, since }) => {
      const open = make("button", { type: "button", class: "link" }, id);
      open.addEventListener("click", () => show(id));
      return make("li", {}, make("time", { datetime: since }, since.slice(0, 19).replace("T", " ")), open);
    });
    say($("ids-title"), `${group}${after ? ", continued" : ""}`);
    $("ids-list").replaceChildren(...items);
    $("ids-more").hidden = next === null;
    $("ids-more").onclick = () => listIds(group, next);
    $("ids").hidden = false;
    $("ids").focus();
  } catch (error) {
    complain(error);
  }
}

// ---- a decision about a group ----------------------------------------------------------------------------------------

let wish = null;

/** Counts what a decision would change, and asks. */
async function plan(group, decision) {
  wish = { group, decision, number: null };
  $("rate").value = 50;
  $("stop-at").value = 50;
  await count();
  if (wish?.number) $("confirm").showModal();
}

/** The dry run, with the settings in the dialog. */
async function count() {
  const { group, decision } = wish;
  $("confirm-yes").disabled = true;
  try {
    const body = { group: group.group, what: decision.what, rate: Number($("rate").value), stop_at: Number($("stop-at").value) };
    const planned = await ask("api/decision", body);
    wish.number = planned.number;
    const what = `${decision.verb} ${plural(planned.count, "notification")}${decision.suffix}`;
    say($("confirm-title"), `${what}?`);
    say($("confirm-text"), `${group.group}. Nothing is changed yet. It takes about ${span(planned.seconds * 1000)}: it begins with one ` +
      "per second, and doubles each second.");
    say($("confirm-warning"), decision.warning);
    say($("confirm-yes"), what);
    $("confirm-yes").disabled = planned.count === 0;
  } catch (error) {
    $("confirm").close();
    complain(error);
  }
}

async function start() {
  $("confirm").close();
  try {
    showDecision(await ask("api/decision/start", { number: wish.number }));
    $("decision-stop").focus();
    follow();
  } catch (error) {
    complain(error);
  }
}

/** Shows the progress until the decision has been carried out. */
async function follow() {
  while (seen.decision?.stage === "running") {
    await new Promise((resolve) => setTimeout(resolve, 500));
    try {
      showDecision(await ask("api/decision"));
    } catch (error) {
      complain(error);
    }
  }
}

function showDecision(decision) {
  seen.decision = decision;
  const isShown = decision !== null && decision.stage !== "planned";
  $("decision").hidden = !isShown;
  if (!isShown) return;
  const { left, decided, became, stopped } = decision.progress;
  const isRunning = decision.stage === "running";
  say($("decision-title"), `${decision.what.replace("_", " ")} ${decision.group}`);
  $("decision-progress").max = Math.max(1, decision.count);
  $("decision-progress").value = decision.count - left - became.pending;
  const parts = [`${number.format(decided.changed)} of ${number.format(decision.count)} changed`];
  if (decided.not_as_expected) parts.push(`${number.format(decided.not_as_expected)} not as expected any more`);
  if (decided.errors) parts.push(`${plural(decided.errors, "error")}`);
  if (decision.what !== "resolve_done") {
    parts.push(`${number.format(became.done)} DONE`, `${number.format(became.failed_again)} failed again`, `${number.format(became.pending)} pending`);
    if (became.failing) parts.push(`${number.format(became.failing)} of these failing`);
  }
  const why = stopped === "none_settled" ? "none is settled" : stopped?.calls_fail ? "calls fail" : "too many fail again";
  const ends = {
    running: left ? "Deciding" : "Waiting for the results",
    ended: stopped ? `Stopped, because ${why}` : decision.error ? `Ended: ${decision.error}` : "Finished",
    interrupted: "Stopped",
  };
  const rest = isRunning || (!left && !decided.errors) ? "" : ` The file ${decision.file} continues it, with notifyctl’s --resume.`;
  say($("decision-text"), `${parts.join(", ")}.${rest}`);
  say($("decision-stage"), ends[decision.stage]);
  $("decision-stop").hidden = !isRunning;
  $("decision-close").hidden = isRunning;
}

// ---- one notification ------------------------------------------------------------------------------------------------

/** Shows a notification, with its event only if the person asks for it. */
async function show(id, withEvent) {
  $("id").value = id;
  try {
    const query = new URLSearchParams(withEvent ? { id, event: 1 } : { id });
    const found = await ask(`api/notification?${query}`);
    $("notification").replaceChildren(timeline(found), attributes(found, withEvent));
  } catch (error) {
    $("notification").replaceChildren(make("p", {}, error.message));
  }
  $("one").focus();
  $("one").scrollIntoView({ block: "nearest" });
}

function timeline(found) {
  const items = found.timeline.map((event) => {
    const after = event.after_ms === null ? "" : ` +${event.after_ms < 120000 ? `${event.after_ms / 1000} s` : span(event.after_ms)}`;
    return make("li", {}, make("time", { datetime: event.at }, event.at.replace("T", " ").replace("Z", " UTC")),
      make("span", { class: "after" }, after), make("div", {}, event.what));
  });
  return make("div", {}, make("h3", {}, found.id), make("ol", { class: "timeline" }, ...items));
}

function attributes(found, withEvent) {
  const list = make("dl", { class: "attributes" });
  for (const [name, value] of found.attributes) {
    list.append(make("dt", {}, name), make("dd", {}, name === "event" ? make("pre", {}, value) : value));
  }
  const button = make("button", { type: "button" }, "Show the event and the outcome (may contain personal data)");
  button.addEventListener("click", () => show(found.id, true));
  return make("div", {}, list, ...(withEvent ? [] : [button]));
}

// ---- trouble, on a local stack ---------------------------------------------------------------------------------------

/** What becomes of each kind of message. */
const TROUBLE = {
  good: "They become DONE.",
  duplicates: "100 of them become DONE; the repeats change nothing.",
  conflict: "The one that arrives first becomes DONE. The other is refused six times, then it is a dead letter.",
  malformed: "It is refused six times, then it is a dead letter.",
  rejected: "They become FAILED, with the reason. Run again, they fail again: nothing was fixed.",
};

/** What each fault does. */
const FAULTS = {
  kill_ingest: "ingest dies when its next call has taken effect. Its messages are received again: they are duplicates.",
  kill_publisher: "publisher dies when its next call has taken effect. Lambda retries the batch: the repeats change nothing.",
  kill_downstream: "downstream dies when its next call has taken effect. Lambda retries the batch: what is DONE stays DONE.",
  lose_replies: "5 calls take effect, but the functions never hear of it. They find out when they try again.",
  throttle: "50 calls are throttled. The functions wait and try again.",
  fail_calls: "50 calls are answered with an internal error. The functions wait and try again.",
  stop_table_stream: "The table’s stream is not read for a minute: notifications stay pending. Start it again, or wait.",
  stop_data_stream: "Kinesis is not read for a minute: notifications stay pending. Start it again, or wait.",
  start_table_stream: "The table’s stream is read again, within seconds.",
  start_data_stream: "Kinesis is read again, within seconds.",
};

async function send(kind) {
  try {
    const { sent } = await ask("api/trouble", { kind });
    say($("trouble-text"), `${plural(sent, "message")} sent. ${TROUBLE[kind]}`);
  } catch (error) {
    complain(error);
  }
}

async function cause(fault) {
  try {
    showFaults(await ask("api/fault", { fault }));
    say($("trouble-text"), FAULTS[fault]);
  } catch (error) {
    complain(error);
  }
}

function showTrouble({ kept, faults }) {
  for (const element of document.querySelectorAll(".faults")) {
    element.hidden = faults === null;
  }
  if (faults) showFaults(faults);
  for (const [name, count] of Object.entries(kept)) {
    const element = document.querySelector(`[data-kept="${name}"]`);
    say(element, number.format(count));
    element.classList.toggle("bad", name === "lost" && count > 0);
  }
  const isSettled = kept.sent === kept.done + kept.attention;
  const verdict = kept.sent === 0 ? "Nothing has been sent from this page yet."
    : kept.lost > 0 ? "Some are lost: neither in the table nor in a queue."
      : isSettled ? "Nothing is lost: all that were sent are DONE or need attention." : "Nothing is lost so far.";
  say($("kept"), verdict);
  $("kept").className = kept.lost > 0 ? "bad" : kept.sent > 0 ? "good" : "";
}

/** Shows how often each fault has happened, and what is still to come. */
function showFaults(faults) {
  for (const [kind, { happened, calls, seconds }] of Object.entries(faults)) {
    const isStream = document.querySelector(`[data-stream="${kind}"]`);
    say(document.querySelector(`[data-happened="${kind}"]`), number.format(happened));
    const left = calls === 0 ? "" : isStream ? `stopped, ${seconds} s` : `${calls} more, ${seconds} s`;
    say(document.querySelector(`[data-left="${kind}"]`), left);
    if (isStream) {
      const action = calls === 0 ? "stop" : "start";
      isStream.dataset.fault = `${action}_${kind}`;
      say(isStream, `${action === "stop" ? "Stop" : "Start"} ${kind === "table_stream" ? "the table’s stream" : "Kinesis"}`);
    }
  }
}

// ---- what the person does --------------------------------------------------------------------------------------------

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("id").value.trim();
  if (id) show(id);
});
$("count-all").addEventListener("click", () => look(true));
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm-yes").addEventListener("click", start);
$("rate").addEventListener("change", count);
$("stop-at").addEventListener("change", count);
$("decision-stop").addEventListener("click", async () => {
  try {
    showDecision(await ask("api/decision/stop", { number: seen.decision.number }));
  } catch (error) {
    complain(error);
  }
});
$("decision-close").addEventListener("click", () => {
  $("decision").hidden = true;
  $("attention").focus();
});
for (const button of document.querySelectorAll("[data-trouble]")) {
  button.addEventListener("click", () => send(button.dataset.trouble));
}
for (const button of document.querySelectorAll("[data-fault]")) {
  button.addEventListener("click", () => cause(button.dataset.fault));
}
$("ids-close").addEventListener("click", () => {
  $("ids").hidden = true;
  $("attention").focus();
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, dialog");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    $("id").focus();
    $("id").select();
  } else if (event.key === "Escape" && event.target === $("id")) {
    $("id").blur();
  }
});

// ---- reading, while the page is visible ------------------------------------------------------------------------------

/** Reads everything once. Counts DONE too on a local stack, or if that is asked for. */
async function look(countsAll) {
  try {
    const isAll = countsAll || seen.flow?.is_local;
    const flow = await ask(isAll ? "api/flow?all=1" : "api/flow");
    seen.flow = flow;
    showFlow(flow);
    showGroups((await ask("api/groups")).groups);
    showMetrics(await ask("api/metrics"));
    if (flow.is_local) showTrouble(await ask("api/trouble"));
    $("problem").hidden = true;
  } catch (error) {
    complain(error);
  }
}

async function watch() {
  if (!document.hidden) await look(false);
  setTimeout(watch, seen.flow?.is_local ? LOCAL_MS : AWS_MS);
}

ask("api/decision").then((decision) => {
  showDecision(decision);
  follow();
}, complain);
watch();
