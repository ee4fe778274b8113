// The first page: the fleet and the jobs, as they are now.
import { address, amount, ask, badge, bar, bytes, figure, fill, find, follow, live, make, notice, progress, rows, soon, span } from "/assets/common.js";

const jobs = new Map();
const devices = new Map();
let me = null;
const isStaff = () => me.role === "admin" || me.role === "operator";

function jobRow(job) {
  const link = make("a.name", job.name ?? job.image);
  link.href = `/jobs/${job.id}`;
  const { total, succeeded } = job.counts;
  const age = span((job.finished_ms ?? Date.now()) - job.created_ms);
  return make("tr",
    make("td", link, make("small", job.name ? `${job.image} · ${job.verification}` : job.verification)),
    make("td", badge(job.state)),
    make("td.wide", progress(job.counts), job.explanation ? make("small.reason", job.explanation) : ""),
    make("td.number", `${succeeded} / ${total}`),
    make("td.number", amount(job.price.spent), job.price.max ? make("small", `of at most ${job.price.max}`) : ""),
    make("td", job.buyer),
    make("td.number", age, make("small", job.finished_ms ? "took" : "so far")));
}

function load(label, total, free, text) {
  const taken = total > 0 ? (total - free) / total : 0;
  return [make("span", label), bar([["load", taken]]), make("span", text)];
}

// What a device of an image started from. A boot image that is not what it was composed as is somebody's business.
function system({ system }) {
  if (!system) return [];
  const { board, slot, version, boot_image: boot } = system;
  const what = [make("small", board), make("small", `${version}, slot ${slot}`)];
  what[1].title = `boot image ${boot}`;
  // "unchecked: why" is no warning either.
  if (boot === "sound" || boot.startsWith("unchecked")) return what;
  const warning = make("small.warning", `boot image ${boot.split(":", 1)[0]}`);
  warning.title = boot;
  return [...what, warning];
}

// Of a device that holds its data area back, and with it its agent, the hub hears nothing: it says so on its own page.
function standing({ online, assignments, last_seen_ms: seen, system }) {
  if (online) return make("small", `${assignments} ${assignments === 1 ? "task" : "tasks"}`);
  const away = make("small.warning", seen ? `offline for ${span(Date.now() - seen)}` : "never connected");
  if (system) away.title = "Console and page (port 80) of the device say what it waits for.";
  return away;
}

function deviceRow(device) {
  const { total, free } = device;
  const dot = make(`span.dot${device.online ? ".on" : ""}`);
  dot.title = device.online ? "connected" : `last heard of ${span(Date.now() - device.last_seen_ms)} ago`;
  const loads = total
    ? make("div.loads",
      ...load("CPU", total.cpu_millis, free.cpu_millis, `${((total.cpu_millis - free.cpu_millis) / 1000).toFixed(1)} of ${(total.cpu_millis / 1000).toFixed(1)}`),
      ...load("RAM", total.memory, free.memory, `${bytes(total.memory - free.memory)} of ${bytes(total.memory)}`))
    : make("span.empty", "has not said what it lends");
  const { valid, invalid, lost, score } = device.reputation;
  return make("tr",
    make("td", dot, make("span.name", device.hostname || "device"), make("small", address(device.address))),
    make("td", address(device.owner), device.labels.region ? make("small", device.labels.region) : ""),
    make("td", device.class, ...system(device)),
    make("td", badge(device.state), standing(device)),
    make("td.wide", loads),
    make("td.number", (score / 10).toFixed(1), make("small", `${valid} right, ${invalid} wrong, ${lost} lost`)),
    make("td.number", amount(device.earned), make("small", "voucher ", amount(device.vouchered))));
}

const draw = soon(() => {
  const shownJobs = [...jobs.values()].sort((a, b) => b.created_ms - a.created_ms).slice(0, 100);
  const shownDevices = [...devices.values()].sort((a, b) => Number(b.online) - Number(a.online) || a.enrolled_ms - b.enrolled_ms);
  rows(find("jobs"), shownJobs, (job) => job.id, jobRow);
  find("no-jobs").hidden = shownJobs.length > 0;
  find("jobs").parentElement.hidden = shownJobs.length === 0;
  const sum = (of, what) => of.reduce((all, one) => all + what(one), 0);
  const running = sum(shownJobs, (job) => job.counts.running);
  const figures = [
    figure("jobs running", String(shownJobs.filter((job) => job.state === "running").length), `of ${shownJobs.length}`),
    figure("tasks running", String(running), `+ ${sum(shownJobs, (job) => job.counts.queued)} queued`),
    figure("tasks verified", String(sum(shownJobs, (job) => job.counts.succeeded))),
  ];
  if (isStaff() || me.role === "owner") {
    const online = shownDevices.filter((device) => device.online);
    const lent = online.filter((device) => device.total);
    rows(find("devices"), shownDevices, (device) => device.address, deviceRow);
    find("no-devices").hidden = shownDevices.length > 0;
    find("devices").parentElement.hidden = shownDevices.length === 0;
    const cores = (amounts) => (sum(lent, (device) => device[amounts].cpu_millis) / 1000).toFixed(1);
    figures.unshift(
      figure("devices connected", String(online.length), `of ${shownDevices.length}`),
      figure("cores free", cores("free"), `of ${cores("total")}`));
  }
  fill(find("figures"), ...figures);
});

async function fetchAll() {
  const seesDevices = isStaff() || me.role === "owner";
  const [jobList, deviceList] = await Promise.all([
    ask("/v1/jobs?limit=100"),
    seesDevices ? ask("/v1/devices") : { devices: [] },
  ]);
  jobs.clear();
  devices.clear();
  jobList.jobs.forEach((job) => jobs.set(job.id, job));
  deviceList.devices.forEach((device) => devices.set(device.address, device));
  draw();
}

function change(one) {
  if (one.type === "job") jobs.set(one.job.id, one.job);
  if (one.type === "device") devices.set(one.device.address, one.device);
  if (one.type === "job" || one.type === "device") draw();
}

async function begin() {
  me = await ask("/v1/me");
  find("person").textContent = `${me.name}, ${me.role}`;
  find("fleet").hidden = !(isStaff() || me.role === "owner");
  await fetchAll();
  const again = () => fetchAll().then(() => notice(null), (error) => notice(error.message));
  if (isStaff()) {
    follow("/v1/events", change, again);
    // Loads change without an event of their own.
    setInterval(again, 10000);
  } else {
    live("on");
    setInterval(again, 3000);
  }
}

begin().catch((error) => notice(error.message));
