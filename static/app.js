// The pages work without this. With it they say where they came from, and forms change the list without loading it anew.

const messages = document.getElementById("messages");
const badge = document.getElementById("origin");
const live = document.getElementById("live");

// Longer than the server takes for any request.
const PATIENCE = 40_000;

// Where a page came from. It cannot say so itself: from the cache it is the same for everybody, each time.
function origin({ cache, view }) {
  switch (cache?.description) {
    case "local":
      return `From this process in ${milliseconds(cache)}`;
    case "hit":
      return `From the cache in ${milliseconds(cache)}`;
    case "shared":
      return `Built for another a moment ago, waited ${milliseconds(cache)}`;
    case "stored":
      return `Built for you in ${milliseconds(view)}, now cached`;
    default:
      return view && `Built for you in ${milliseconds(view)}, not cached`;
  }
}

function milliseconds({ duration }) {
  return duration < 10 ? `${duration.toFixed(1)} ms` : `${Math.round(duration)} ms`;
}

function sayOrigin(entries) {
  const timing = Object.fromEntries(entries.map((entry) => [entry.name, entry]));
  const text = origin(timing);
  const isCached = ["local", "hit"].includes(timing.cache?.description);
  const asked = document.createElement("span");
  if (isCached && timing.gate) asked.textContent = `, after asking for its version in ${milliseconds(timing.gate)}`;
  badge.replaceChildren(text ?? "", asked);
  badge.className = isCached ? "cached" : "";
  badge.hidden = !text;
}

// As the browser reads it: `cache;desc="hit";dur=0.4, gate;dur=0.1`.
function parseTiming(header) {
  return (header ?? "").split(",").map((entry) => {
    const [name, ...parameters] = entry.split(";").map((part) => part.trim());
    const value = (key) => parameters.find((part) => part.startsWith(`${key}=`))?.slice(key.length + 1);
    return { name, description: value("desc")?.replaceAll('"', ""), duration: Number(value("dur") ?? 0) };
  });
}

async function load(url, options) {
  const response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE), ...options });
  return { response, page: new DOMParser().parseFromString(await response.text(), "text/html") };
}

// Puts what an answer shows in the place of what is shown. The messages come last, where screen readers notice them.
function showList(response, page) {
  sayOrigin(parseTiming(response.headers.get("server-timing")));
  document.getElementById("list").replaceWith(page.getElementById("list"));
  messages.replaceChildren(...page.getElementById("messages").childNodes);
}

// Empties the form, or says what is wrong with its text. What was typed since it was sent is kept.
function showForm(page, sent) {
  const typed = document.getElementById("name").value;
  // The focus is set below, and a browser complains of being told twice.
  page.getElementById("name").autofocus = false;
  document.getElementById("add").replaceWith(page.getElementById("add"));
  if (typed !== sent) document.getElementById("name").value = typed;
}

function complain(text) {
  const message = document.createElement("p");
  message.className = "message problem";
  message.textContent = text;
  messages.replaceChildren(message);
}

async function send(action, body) {
  const { response, page } = await load(action, { method: "POST", body });
  if (!page.getElementById("list")) {
    // An error page. What is typed stays where it is.
    const words = [...page.querySelectorAll("main h1, main h1 + p")].map((part) => part.textContent);
    return complain(words.join(". ") || "Something went wrong. Please look at the list before you try again.");
  }
  const id = body.get("id");
  const buttons = () => [...document.querySelectorAll("#list .action button")];
  const index = buttons().findIndex((button) => button.form.elements.id.value === id);
  const place = buttons()[index]?.getBoundingClientRect().top;
  if (body.has("name")) showForm(page, body.get("name"));
  if (response.ok) showList(response, page);
  else messages.replaceChildren();
  if (response.redirected) history.replaceState(null, "", response.url);
  // What to go on with: the next task, in the place of the one that is gone, or the way back; the text that is wrong, or
  // the next text.
  const next = buttons().slice(0, index + 1).at(-1);
  if (next) scrollBy(0, next.getBoundingClientRect().top - place);
  const target = (id && (next ?? messages.querySelector("button"))) || document.getElementById("name");
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: "nearest" });
}

// One after the other, so that the list shown last is the newest; and none twice.
const pending = new Set();
let last = Promise.resolve();

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!document.getElementById("list") || !form.closest("main")) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form));
  const request = `${form.action} ${body}`;
  if (pending.has(request)) return;
  pending.add(request);
  form.ariaBusy = "true";
  last = last
    .then(() => send(form.action, body))
    // It may be done or not: sending it again by ourselves could do it twice.
    .catch(() => complain("The server did not answer. Please look at the list before you try again."))
    .finally(() => {
      pending.delete(request);
      form.ariaBusy = null;
    });
});

// A page that a browser has kept is as old as it is, and its messages were for then.
addEventListener("pageshow", async ({ persisted }) => {
  const [navigation] = performance.getEntriesByType("navigation");
  if (!document.getElementById("list") || !(persisted || navigation.type === "back_forward")) return;
  const { response, page } = await load(location.href).catch(() => ({}));
  if (response?.ok && page.getElementById("list")) showList(response, page);
});

// The cache page keeps itself up to date while somebody looks at it.
async function refresh() {
  if (document.hidden || live.contains(document.activeElement)) return;
  const { page } = await load(location.href);
  live.replaceChildren(...(page.getElementById("live")?.childNodes ?? live.childNodes));
}

if (live) setInterval(() => refresh().catch(() => {}), Number(live.dataset.refresh));

sayOrigin(performance.getEntriesByType("navigation")[0].serverTiming);
