// Requests with the key, which is kept for this browser tab only.

const STORED = "rollama-key";
let key = sessionStorage.getItem(STORED) || "";

export function hasKey() {
  return key !== "";
}

export async function ask(path, options = {}) {
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

// Use a key from now on, or the stored one; throws when the endpoint does not accept it.
export async function useKey(value = key) {
  key = value;
  await ask("/openapi.json");
  sessionStorage.setItem(STORED, key);
}

export async function submit(data) {
  const random = crypto.getRandomValues(new Uint32Array(4)); // unlike randomUUID also there without TLS
  const headers = { "Idempotency-Key": random.join("-") };
  return (await ask("/v1/pipeline/upload", { method: "POST", body: data, headers })).json();
}

// The job's answer, each time it changes, until it is over.
export async function* follow(id) {
  const answer = await ask(`/v1/jobs/${id}/events`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield JSON.parse(line.slice(5));
  }
}

export function stop(id) {
  return ask(`/v1/jobs/${id}`, { method: "DELETE" });
}
