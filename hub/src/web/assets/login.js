// Signing in: the token goes to the hub once and becomes a session; it is not kept in the browser.
import { find, notice } from "/assets/common.js";

async function signIn(token) {
  const answer = await fetch("/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (answer.ok) { location.replace("/"); return; }
  const problem = await answer.json();
  notice(problem.detail ?? problem.title);
}

find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(find("token").value);
});

// A link from the hub's own output: what stands behind `#` is never sent anywhere by the browser itself.
const linked = new URLSearchParams(location.hash.slice(1)).get("token");
if (linked) {
  history.replaceState(null, "", "/login");
  signIn(linked);
}
