// The API key, where the service asks for one: in this tab alone, and only ever sent as a header.

const KEPT = "longskip-key";
const IN_A_HEADER = /^[\x21-\x7e]+$/;
const byId = (id) => document.getElementById(id);

export function keyHeaders() {
  const key = sessionStorage.getItem(KEPT);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export function hasKey() {
  return sessionStorage.getItem(KEPT) !== null;
}

// What to tell of an answer's 401 or 403; `detail` is the service's own text.
export function askForKey(status, detail) {
  let text = "This service asks for an API key.";
  if (status === 403) text = `This key is not for segmenting: ${detail}.`;
  else if (hasKey()) text = "The service does not know this key.";
  byId("key-note").textContent = text;
  byId("key-form").hidden = false;
  return text;
}

// `use` is called when a key was given or forgotten.
export function watchKey(use) {
  const show = () => { byId("forget-key").hidden = !hasKey(); };
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = byId("key").value.trim();
    if (!IN_A_HEADER.test(key)) {
      byId("key-note").textContent = "This is no key: one has letters, digits, - and _ only.";
      return;
    }
    sessionStorage.setItem(KEPT, key);
    byId("key").value = "";
    byId("key-form").hidden = true;
    show();
    use();
  });
  byId("forget-key").addEventListener("click", () => {
    sessionStorage.removeItem(KEPT);
    show();
    use();
  });
  show();
}
