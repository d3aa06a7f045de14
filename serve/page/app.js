// The page's behaviour. Nothing is loaded from elsewhere and nothing is kept but the key, for this tab only.

const LEVELS = ["L1", "L2", "L3", "L4", "interpectoral", "IMN"];
const COLOURS = ["red", "green", "blue", "warm", "cool"];
const $ = (id) => document.getElementById(id);

let key = sessionStorage.getItem("rollama-key") || "";
let running = null; // id of the job in work
let results = []; // {name, url, shown}
let plan = null; // fields of the latest plan
let patient = []; // the CT's files that the results on the page belong to
let viewer = null;

function say(text) {
  $("message").textContent = text;
}

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${key}`, ...(options.headers || {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  let detail = `${answer.status} ${answer.statusText}`;
  try {
    detail = (await answer.json()).detail || detail;
  } catch {
    // not from the endpoint itself: the status has to do
  }
  throw new Error(detail);
}

// --- key

async function tryKey() {
  try {
    await ask("/openapi.json");
    sessionStorage.setItem("rollama-key", key);
    $("key-state").textContent = "accepted";
  } catch (error) {
    $("key-state").textContent = "not accepted";
    say(error.message);
  }
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  say("");
  tryKey();
});
if (key) tryKey();

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
  plan = null;
  $("summary").textContent = "The summary appears here.";
  $("summary").classList.add("empty");
  for (const id of ["plan-form", "viewer", "overlay", "plan-text"]) $(id).hidden = true;
  $("overlay").removeAttribute("src");
  for (const id of ["results", "downloads", "warnings", "measures"]) $(id).replaceChildren();
  $("nothing").hidden = false;
  say("");
}

$("ct").addEventListener("change", forget);

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
  work(form({ note: $("note").value }), "generated plan");
});

$("plan-form").addEventListener("submit", (event) => {
  event.preventDefault();
  plan = editedPlan();
  work(form({ plan: JSON.stringify(plan) }), `${plan.side}, ${plan.volume}, ${plan.levels.join(" ") || "no nodes"}`);
});

$("stop").addEventListener("click", async () => {
  if (running) await ask(`/v1/jobs/${running}`, { method: "DELETE" }).catch((error) => say(error.message));
});

// --- a job from its submission to its files

async function work(data, name) {
  say("");
  busy(true);
  stages({ stage: "", state: "queued", done: 0, total: 0, findings: {} });
  try {
    const random = crypto.getRandomValues(new Uint32Array(4)); // unlike randomUUID also there without TLS
    const header = { "Idempotency-Key": random.join("-") };
    const job = await (await ask("/v1/pipeline/upload", { method: "POST", body: data, headers: header })).json();
    running = job.job_id;
    const last = await follow(job.job_id);
    if (last.error) throw new Error(last.error.detail);
    if (last.state !== "done") say(`The job was ${last.state}.`);
    else await addResult(last, name);
  } catch (error) {
    say(error.message);
  } finally {
    running = null;
    busy(false);
  }
}

async function follow(id) {
  const answer = await ask(`/v1/jobs/${id}/events`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let last = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return last;
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      last = JSON.parse(line.slice(5));
      stages(last);
      texts(last.findings);
    }
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

function texts(found) {
  if (found.summary) {
    $("summary").textContent = found.summary;
    $("summary").classList.remove("empty");
  }
  if (found.plan && JSON.stringify(found.plan) !== JSON.stringify(plan)) {
    plan = found.plan; // once: whoever edits it meanwhile must not be overwritten
    fillPlan(plan);
  } else if (found.plan_text && !found.plan) {
    say("The generated plan does not parse; it is shown as it is.");
    $("plan-text").textContent = found.plan_text;
    $("plan-text").hidden = false;
  }
  $("warnings").replaceChildren(
    ...(found.warnings || []).map((warning) => Object.assign(document.createElement("li"), { textContent: warning })),
  );
}

// --- the plan as a form

for (const level of LEVELS) {
  const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "level", value: level });
  const label = document.createElement("label");
  label.append(box, ` ${level}`);
  $("levels").append(label);
}

function fillPlan(fields) {
  const inputs = $("plan-form").elements;
  $("plan-form").hidden = !fields.volume;
  if (!fields.volume) {
    say("The plan has no target.");
    return;
  }
  for (const name of ["side", "surgery", "volume"]) inputs[name].value = fields[name];
  inputs.guideline.value = fields.guideline || "";
  for (const box of inputs.level) box.checked = fields.levels.includes(box.value);
  const boost = fields.boost ? `${fields.boost.kind} boost ${dose(fields.boost.dose)}` : "no boost";
  $("plan-rest").textContent = `${dose(fields.dose)}, ${fields.technique}, ${boost}`;
}

function dose(value) {
  return `${value.gy} Gy in ${value.fractions} fractions`;
}

function editedPlan() {
  const inputs = $("plan-form").elements;
  const edited = { ...plan, guideline: inputs.guideline.value || null };
  for (const name of ["side", "surgery", "volume"]) edited[name] = inputs[name].value;
  edited.levels = [...inputs.level].filter((box) => box.checked).map((box) => box.value);
  if (edited.volume === "chest wall") edited.boost = null;
  return edited;
}

// --- targets

async function addResult(job, name) {
  const blob = await (await ask(job.files["target.nii.gz"])).blob();
  $("nothing").hidden = true;
  results.push({ name, job, url: URL.createObjectURL(blob), shown: true });
  results.slice(0, -2).forEach((result) => (result.shown = false)); // the two newest, to be compared
  const picture = await (await ask(job.files["overlay.png"])).blob();
  $("overlay").src = URL.createObjectURL(picture);
  const found = job.findings;
  const spent = Object.entries(found.timings).map(([stage, seconds]) => `${stage} ${seconds.toFixed(1)} s`);
  $("measures").textContent = `Target ${found.target_cc.toFixed(1)} cc. ${spent.join(", ")}.`;
  $("downloads").replaceChildren(
    ...Object.entries(job.files).map(([file, path]) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: file });
      button.addEventListener("click", () => download(file, path));
      return button;
    }),
  );
  showResults();
  await draw();
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
        await draw();
      });
      return button;
    }),
  );
}

async function download(name, path) {
  const url = URL.createObjectURL(await (await ask(path)).blob());
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function draw() {
  const files = patient;
  const readable = files.length === 1 && /\.(nii|nii\.gz|nrrd|mha)$/i.test(files[0].name);
  try {
    if (!readable) throw new Error("the viewer reads NIfTI, NRRD and MHA");
    if (!viewer) {
      const { Niivue } = await import("/page/niivue.js");
      viewer = new Niivue({
        show3Dcrosshair: true, backColor: [0, 0, 0, 1], crosshairWidth: 0.5, crosshairColor: [1, 0.85, 0.2, 0.7],
        isRadiologicalConvention: true, // as on every workstation: the patient's right is on the left
      });
      $("viewer").hidden = false; // a canvas without a size cannot be attached
      await viewer.attachToCanvas($("view"));
      viewer.setSliceType(viewer.sliceTypeMultiplanar);
      viewer.setMultiplanarLayout(2);
    }
    const volumes = [{ url: URL.createObjectURL(files[0]), name: files[0].name, cal_min: -160, cal_max: 240 }];
    results.forEach((result, number) => {
      if (!result.shown) return;
      const colormap = COLOURS[number % COLOURS.length];
      volumes.push({ url: result.url, name: `target-${number}.nii.gz`, colormap, opacity: 0.45, cal_min: 0.5, cal_max: 1 });
    });
    $("viewer").hidden = false;
    await viewer.loadVolumes(volumes);
    const centre = results.findLast((result) => result.shown)?.job.findings.target_centre_mm;
    if (centre) viewer.scene.crosshairPos = viewer.mm2frac(centre);
    viewer.drawScene();
    $("viewer").dataset.shown = results.filter((result) => result.shown).length; // what a test can see
    $("overlay").hidden = true;
  } catch (error) {
    // Without the viewer (not built, no WebGL, another format) the picture that the endpoint draws has to do.
    console.info(`no viewer: ${error.message}`);
    $("viewer").hidden = true;
    $("overlay").hidden = !$("overlay").src;
  }
}
