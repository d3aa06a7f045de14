// The page's behaviour. Nothing is loaded from elsewhere and nothing is kept but the key, for this tab only.

import { ask, follow, hasKey, stop, submit, useKey } from "./api.js";
import { asSent, Links } from "./evidence.js";
import { inWords, PlanForm } from "./plan.js";
import { offer, put } from "./samples.js";
import { COLOURS, Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
// What the files are, those that are wanted most first.
const WHAT = {
  "target.dcm": "RTSTRUCT", "target.nii.gz": "mask", "probability.nii.gz": "probability",
  "overlay.png": "picture", "plan.txt": "plan, text", "plan.yaml": "plan, fields", "summary.txt": "summary", "manifest.json": "record",
};

let running = null; // id of the job in work
let results = []; // {name, url, shown, centre}
let patient = []; // the CT's files that the results on the page belong to
let sample = null; // the synthetic patient whose CT is chosen
let sent = ""; // the note as sent
let readable = false; // whether there is a note as sent
let shown = ""; // the evidence on the page, so that a field in use is not drawn anew at every step of the job

const links = new Links($("note-view"), $("plan-form"));
const plan = new PlanForm($("plan-form"), showEdits);
const viewer = new Viewer($("viewer"), $("view"), $("overlay"));

function say(text) {
  $("message").textContent = text;
}

// --- key

async function tryKey(value) {
  try {
    await useKey(value);
    $("key-state").textContent = "accepted";
  } catch (error) {
    $("key-state").textContent = "not accepted";
    say(error.message);
    return;
  }
  // Whoever may not see the samples, or asks an endpoint without them, works without.
  await offer($("samples"), $("sample-state"), take, (error) => say(error.message)).catch((error) => {
    console.info(`no samples: ${error.message}`);
  });
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const value = $("key").value.trim();
  $("key").value = "";
  say("");
  tryKey(value);
});
if (hasKey()) tryKey();

// --- note and CT

for (const name of ["dragover", "dragleave", "drop"]) {
  $("note").addEventListener(name, async (event) => {
    event.preventDefault();
    $("note").classList.toggle("drop", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) $("note").value = await event.dataTransfer.files[0].text();
  });
}

// Nothing of one patient may stay beside another's.
function forget() {
  for (const result of results) URL.revokeObjectURL(result.url);
  results = [];
  patient = [];
  readable = false;
  shown = "";
  plan.clear();
  viewer.clear();
  $("summary").textContent = "The summary appears here.";
  $("summary").classList.add("empty");
  for (const id of ["plan-text", "rules", "files"]) $(id).hidden = true;
  for (const id of ["results", "downloads", "warnings", "measures", "note-view"]) $(id).replaceChildren();
  $("nothing").hidden = false;
  readNote(false);
  say("");
}

function take(chosen, file) {
  sample = chosen;
  put($("ct"), file);
  $("note").value = chosen.note;
  $("rules").querySelector("p").textContent = chosen.plan_text;
  forget();
  showSynthetic();
}

$("ct").addEventListener("change", () => {
  if (sample && $("note").value === sample.note) $("note").value = ""; // a note of another patient than the CT
  sample = null;
  forget();
  showSynthetic();
});

function showSynthetic() {
  for (const badge of document.querySelectorAll(".synthetic")) badge.hidden = !sample;
  for (const button of document.querySelectorAll("#samples .choices button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === sample?.name));
  }
}

// Show the note as it was read, with its sentences marked, or the field to write in.
function readNote(now) {
  $("note-view").hidden = !now;
  $("note").hidden = now;
  $("edit").hidden = !readable;
  $("edit").textContent = now ? "Edit the note" : "Show the note as it was read";
}

$("edit").addEventListener("click", () => {
  readNote($("note-view").hidden);
  if ($("note-view").hidden) $("note").focus();
});

function form(texts) {
  const data = new FormData();
  for (const file of patient) data.append("ct", file, "ct");
  for (const [name, text] of Object.entries(texts)) data.append(name, text);
  return data;
}

$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  forget();
  patient = [...$("ct").files];
  sent = asSent($("note").value);
  readable = true;
  links.show(sent, null);
  readNote(true);
  work(form({ note: sent }), "generated plan");
});

$("plan-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const edited = plan.read();
  work(form({ plan: JSON.stringify(edited) }), inWords(edited));
});

$("stop").addEventListener("click", async () => {
  if (running) await stop(running).catch((error) => say(error.message));
});

// --- a job from its submission to its files

async function work(data, name) {
  say("");
  busy(true);
  stages({ stage: "", state: "queued", done: 0, total: 0, findings: {} });
  try {
    running = (await submit(data)).job_id;
    let last = null;
    for await (last of follow(running)) {
      stages(last);
      texts(last);
    }
    if (last.error) throw new Error(last.error.detail);
    if (last.state !== "done") say(`The job was ${last.state}.`);
    else await addResult(last, name);
  } catch (error) {
    say(error.message);
  } finally {
    running = null;
    busy(false);
    if ($("plan-form").hidden && $("plan-text").hidden) readNote(false); // nothing came of it: there is only the note
  }
}

function busy(now) {
  $("start").disabled = $("again").disabled = now;
  $("stop").hidden = !now;
}

function stages(job) {
  const order = ["summary", "plan", "target"];
  const at = job.state === "done" ? order.length : order.indexOf(job.stage);
  for (const item of $("stages").children) {
    const place = order.indexOf(item.dataset.stage);
    const bar = item.querySelector("progress");
    item.className = place < at ? "done" : place === at ? "now" : "";
    if (place < at) bar.value = bar.max = 1;
    else if (place > at) [bar.max, bar.value] = [1, 0];
    else if (job.total) [bar.max, bar.value] = [job.total, job.done];
    else bar.removeAttribute("value");
  }
}

function texts({ state, findings: found }) {
  if (found.summary) {
    $("summary").textContent = found.summary;
    $("summary").classList.remove("empty");
  }
  if (found.plan_source === "note") {
    if (found.plan && !plan.holds(found.plan)) {
      plan.fill(found.plan); // once: whoever edits it meanwhile must not be overwritten
      $("rules").hidden = !sample || sent !== asSent(sample.note);
    }
    showEvidence(found.evidence, state === "done");
  }
  if (found.plan_text && !found.plan) {
    say("The generated plan does not parse; it is shown as it is.");
    $("plan-text").textContent = found.plan_text;
    $("plan-text").hidden = false;
  } else if (found.plan && !found.plan.volume) say("The plan has no target.");
  $("warnings").replaceChildren(
    ...(found.warnings || []).map((warning) => Object.assign(document.createElement("li"), { textContent: warning })),
  );
}

// --- sentences

// An empty list means "none found" only at the end; before, the endpoint may not have looked yet.
function showEvidence(evidence, over) {
  const pointers = evidence?.length || (evidence && over) ? evidence : null;
  const now = JSON.stringify([sent, pointers]);
  if (!pointers || $("plan-form").hidden || now === shown) return;
  shown = now;
  links.show(sent, pointers);
  $("plan-hint").hidden = !$("note-view").querySelector("mark");
  showEdits(plan.differences());
}

function showEdits(changed) {
  for (const row of $("plan-form").querySelectorAll("[data-field]")) {
    links.edited(row.dataset.field, changed.includes(row.dataset.field));
  }
}

// --- targets

async function addResult(job, name) {
  const blob = await (await ask(job.files["target.nii.gz"])).blob();
  const found = job.findings;
  $("nothing").hidden = true;
  results.push({ name, url: URL.createObjectURL(blob), shown: true, centre: found.target_centre_mm });
  results.slice(0, -2).forEach((result) => (result.shown = false)); // the two newest, to be compared
  const picture = await (await ask(job.files["overlay.png"])).blob();
  $("overlay").src = URL.createObjectURL(picture);
  const spent = Object.entries(found.timings).map(([stage, seconds]) => `${stage} ${seconds.toFixed(1)} s`);
  $("measures").textContent = `Target ${found.target_cc.toFixed(1)} cc. ${spent.join(", ")}.`;
  const names = [...new Set([...Object.keys(WHAT), ...Object.keys(job.files)])].filter((file) => file in job.files);
  $("downloads").replaceChildren(...names.map((file) => keeper(file, job.files[file])));
  $("files").hidden = false;
  showResults();
  await viewer.draw(patient, results);
}

function keeper(file, path) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.textContent = file in WHAT ? `${WHAT[file]}: ${file}` : file;
  button.addEventListener("click", async () => {
    const url = URL.createObjectURL(await (await ask(path)).blob());
    Object.assign(document.createElement("a"), { href: url, download: file }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  return button;
}

function showResults() {
  $("results").replaceChildren(
    ...results.map((result, number) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.textContent = `${number + 1}: ${result.name} (${COLOURS[number % COLOURS.length]})`;
      button.setAttribute("aria-pressed", String(result.shown));
      button.addEventListener("click", async () => {
        result.shown = !result.shown;
        showResults();
        await viewer.draw(patient, results);
      });
      return button;
    }),
  );
}
