// Says where the page came from. The page itself cannot: from the cache it is the same for everybody, each time.
const [navigation] = performance.getEntriesByType("navigation");
const timing = Object.fromEntries(navigation.serverTiming.map((entry) => [entry.name, entry]));

function milliseconds(entry) {
  return entry.duration < 10 ? `${entry.duration.toFixed(1)} ms` : `${Math.round(entry.duration)} ms`;
}

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

const text = origin(timing);
if (text) {
  const footer = document.getElementById("origin");
  footer.textContent = text;
  footer.hidden = false;
}
