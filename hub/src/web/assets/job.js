// One job: its tasks, whose results counted and whose did not, and the picture that they make together.
import { address, amount, ask, badge, figure, fill, find, follow, live, make, notice, progress, rows, soon, span, tone } from "/assets/common.js";

const PICTURE = /\.(bmp|png|jpe?g|gif|webp)$/i;
const id = find("job").dataset.job;
const tasks = new Map();
const names = new Map();
let job = null;
let source = null;
// Which file of each task is the picture; null until the first result tells, false where there is none.
let pictureFile = null;
let ratio = null;

const liars = (task) => task.assignments.filter((one) => one.verdict === "wrong");

function device(one) {
  const known = names.get(one.device);
  if (!known) return address(one.device);
  const element = make("span", known);
  element.title = one.device;
  return element;
}

function lease(one) {
  // `accepted` is a verdict; a device that has accepted its lease is at work.
  const working = !one.verdict && one.state === "accepted";
  const word = one.verdict ?? (working ? "at work" : one.state);
  const where = make(one.verdict === "wrong" ? "span.wrong" : "span", device(one));
  const doing = one.phase && !one.verdict ? `${one.phase}${one.permille ? ` ${(one.permille / 10).toFixed(0)} %` : ""}` : "";
  const took = one.usage ? `${one.class}, ${span(one.usage.wall_ms)}` : one.class;
  const why = one.verdict === "accepted" ? took : one.explanation ?? (doing || took);
  return [where, badge(word, working ? "busy" : tone(word)), make("span.why", why)];
}

function taskRow(task) {
  const root = task.result_root ? make("span.mono", task.result_root.slice(0, 12)) : "";
  if (root) root.title = `result root ${task.result_root}`;
  const reason = task.unplaced_reason?.explanation ?? task.explanation;
  const row = make("tr",
    make("td.number", String(task.index)),
    make("td", badge(task.state), task.round > 1 ? make("small", `round ${task.round}`) : ""),
    make("td", make("div.leases", ...task.assignments.flatMap(lease)), reason ? make("div.reason", reason) : ""),
    make("td", root, task.exit_code !== null ? make("small", `exit code ${task.exit_code}`) : ""),
    make("td.number", amount(task.price)));
  row.id = `task-${task.index}`;
  return row;
}

function cell(task) {
  const element = make(`a.${tone(task.state)}${liars(task).length ? ".liar" : ""}`, String(task.index));
  element.href = `#task-${task.index}`;
  element.title = `task ${task.index}: ${task.state}${liars(task).length ? ", a wrong result was found" : ""}`;
  return element;
}

/** Whether the results are pictures, by the names in the first manifest that is there. */
async function lookForPicture(task) {
  if (pictureFile !== null || task?.state !== "succeeded" || !task.manifest) return;
  pictureFile = false;
  try {
    const manifest = await ask(`/v1/content/sha256/${task.manifest}`);
    const files = manifest.outputs.filter((output) => output.type === "file");
    const place = files.findIndex((file) => PICTURE.test(file.path));
    const pictures = files.filter((file) => PICTURE.test(file.path)).length;
    if (pictures === 1) { pictureFile = place; draw(); }
  } catch (error) { notice(error.message); }
}

function drawPicture(all) {
  if (typeof pictureFile !== "number") return;
  find("picture-section").hidden = false;
  const done = all.filter((task) => task.state === "succeeded").length;
  find("picture-count").textContent = `${done} of ${all.length} tiles verified`;
  const place = find("picture");
  while (place.childElementCount < all.length) place.append(make("div", make("span")));
  all.forEach((task, number) => {
    const tile = place.children[number];
    tile.className = task.state === "succeeded" ? "done" : tone(task.state);
    tile.firstElementChild.textContent = `task ${task.index}: ${task.state}`;
    if (task.state !== "succeeded") {
      tile.style.aspectRatio = ratio ?? `${all.length} / 1`;
      return;
    }
    if (tile.dataset.asked) return;
    tile.dataset.asked = "yes";
    const image = new Image();
    image.alt = `the verified result of task ${task.index}`;
    image.onload = () => {
      tile.style.aspectRatio = "auto";
      tile.append(image);
      if (!ratio) { ratio = `${image.naturalWidth} / ${image.naturalHeight}`; draw(); }
    };
    image.onerror = () => { tile.className = "bad"; tile.firstElementChild.textContent = `task ${task.index}: not a picture`; };
    image.src = `/v1/jobs/${id}/tasks/${task.index}/outputs/${pictureFile}`;
  });
}

const draw = soon(() => {
  if (!job) return;
  const all = [...tasks.values()].sort((a, b) => a.index - b.index);
  document.title = `Sosna: ${job.name ?? job.image}`;
  find("name").textContent = job.name ?? "Job";
  fill(find("state"), badge(job.state));
  find("facts").textContent = `${job.image} · verified by ${job.verification} · for ${job.buyer} · ${id}`;
  find("progress").replaceWith(Object.assign(progress(job.counts, "progress.large"), { id: "progress" }));
  const wrong = all.reduce((count, task) => count + liars(task).length, 0);
  fill(find("figures"),
    figure("tasks verified", String(job.counts.succeeded), `of ${job.counts.total}`),
    figure("running", String(job.counts.running), `+ ${job.counts.queued} queued`),
    Object.assign(figure("wrong results found", String(wrong)), { className: wrong ? "figure alarm" : "figure" }),
    figure("SNM spent", amount(job.price.spent), job.price.max ? `of at most ${job.price.max}` : ""),
    figure(job.finished_ms ? "took" : "since", span((job.finished_ms ?? Date.now()) - job.created_ms)));
  find("explanation").textContent = job.explanation ?? "";
  find("explanation").hidden = !job.explanation;
  fill(find("cells"), ...all.map(cell));
  rows(find("tasks"), all, (task) => task.id, taskRow);
  drawPicture(all);
  lookForPicture(all.find((task) => task.state === "succeeded"));
  const ended = ["succeeded", "failed", "cancelled"].includes(job.state) && all.every((task) => !["queued", "running"].includes(task.state));
  if (ended && source) { source.close(); source = null; live("ended"); }
});

function change(one) {
  if (one.type === "job") job = one.job;
  if (one.type === "task") tasks.set(one.task.id, one.task);
  if (one.type === "assignment") {
    const task = tasks.get(one.task);
    const place = task?.assignments.findIndex((known) => known.id === one.assignment.id);
    if (place >= 0) task.assignments[place] = one.assignment;
    else task?.assignments.push(one.assignment);
  }
  draw();
}

async function begin() {
  const me = await ask("/v1/me");
  find("person").textContent = `${me.name}, ${me.role}`;
  if (me.role !== "buyer") {
    const { devices } = await ask("/v1/devices");
    devices.forEach((one) => names.set(one.address, one.hostname));
  }
  const legend = [["good", "verified"], ["busy", "running"], ["wait", "queued"], ["bad", "failed"], ["liar", "a wrong result was found"]];
  fill(find("legend"), ...legend.map(([kind, text]) => make("span", make(`i.${kind}`), text)));
  // Also tells what is wrong, which a stream cannot.
  await ask(`/v1/jobs/${id}`);
  source = follow(`/v1/jobs/${id}/events`, change, () => {});
  setInterval(draw, 1000);
}

begin().catch((error) => notice(error.message));
