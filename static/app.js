// The pages work without this. With it they say where they came from, and forms change the page without loading it anew.

const messages = document.getElementById("messages");
const live = document.getElementById("live");

// Where a page came from. It cannot say so itself: from the cache it is the same for everybody, each time.
function origin({ cache, gate, view }) {
  const asked = gate ? `, after ${milliseconds(gate)} of asking the database whether it is still the same` : "";
  switch (cache?.description) {
    case "local":
      return `From this process, in ${milliseconds(cache)}${asked}.`;
    case "hit":
      return `From the cache, in ${milliseconds(cache)}${asked}.`;
    case "shared":
      return `Built for somebody who asked just before you; you waited ${milliseconds(cache)} for it.`;
    case "stored":
      return `Built for you in ${milliseconds(view)}, and in the cache from now on.`;
    default:
      return view && `Built for you in ${milliseconds(view)}, and not cached.`;
  }
}

function milliseconds({ duration }) {
  return duration < 10 ? `${duration.toFixed(1)} ms` : `${Math.round(duration)} ms`;
}

function sayOrigin(entries) {
  const footer = document.getElementById("origin");
  const text = origin(Object.fromEntries(entries.map((entry) => [entry.name, entry])));
  footer.hidden = !text;
  footer.textContent = text ?? "";
}

// As the browser reads it: `cache;desc="hit";dur=0.4, gate;dur=0.1`.
function parseTiming(header) {
  return (header ?? "").split(",").map((entry) => {
    const [name, ...parameters] = entry.split(";").map((part) => part.trim());
    const value = (key) => parameters.find((part) => part.startsWith(`${key}=`))?.slice(key.length + 1);
    return { name, description: value("desc")?.replaceAll('"', ""), duration: Number(value("dur") ?? 0) };
  });
}

// Puts what an answer shows in the place of what is shown. The messages come last, where screen readers notice them.
function show(answer) {
  document.title = answer.title;
  for (const id of ["add", "list"]) {
    document.getElementById(id).replaceWith(answer.getElementById(id));
  }
  messages.replaceChildren(...answer.getElementById("messages").childNodes);
}

// What to go on with: the text that is wrong, the next task, the way back, or the next text.
function focus(action, index) {
  const removes = document.querySelectorAll(".action button");
  const next = action === "/remove" ? (removes[Math.min(index, removes.length - 1)] ?? messages.querySelector("button")) : null;
  (next ?? document.getElementById("name")).focus();
}

function complain(text) {
  const message = document.createElement("p");
  message.className = "message problem";
  message.textContent = text;
  messages.replaceChildren(message);
}

async function send(form, index) {
  const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  const answer = new DOMParser().parseFromString(await response.text(), "text/html");
  if (!answer.getElementById("list")) {
    // An error page. What is typed stays where it is.
    const words = answer.querySelectorAll("main h1, main h1 + p");
    return complain([...words].map((part) => part.textContent).join(". "));
  }
  show(answer);
  sayOrigin(parseTiming(response.headers.get("server-timing")));
  if (response.redirected) history.replaceState(null, "", response.url);
  focus(new URL(form.action).pathname, index);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!document.getElementById("list") || !form.closest("main")) return;
  event.preventDefault();
  if (form.ariaBusy === "true") return;
  form.ariaBusy = "true";
  const index = [...document.querySelectorAll(".action button")].indexOf(event.submitter);
  send(form, index)
    // It may be done or not: sending it again by ourselves could do it twice.
    .catch(() => complain("The server did not answer. Please look at the list before you try again."))
    .finally(() => { form.ariaBusy = null; });
});

// The cache page keeps itself up to date while somebody looks at it.
async function refresh() {
  if (document.hidden || live.contains(document.activeElement)) return;
  const response = await fetch(location.href);
  const answer = new DOMParser().parseFromString(await response.text(), "text/html");
  live.replaceChildren(...(answer.getElementById("live")?.childNodes ?? live.childNodes));
}

if (live) setInterval(() => refresh().catch(() => {}), Number(live.dataset.refresh));

const [navigation] = performance.getEntriesByType("navigation");
sayOrigin([...navigation.serverTiming]);
