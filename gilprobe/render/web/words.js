// Words, numbers and elements.

/** @param {number} value seconds @returns {string} */
export const seconds = (value) => {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-6) return `${(value * 1e9).toFixed(0)} ns`;
  if (size < 1e-3) return `${Number((value * 1e6).toPrecision(3))} µs`;
  if (size < 1) return `${Number((value * 1e3).toPrecision(3))} ms`;
  return `${size < 1000 ? Number(value.toPrecision(3)) : Math.round(value)} s`;
};

/** @param {number} share 0-1 @returns {string} */
export const percent = (share) => `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 1 : 0)}%`;

/** @param {number} value @returns {string} */
export const whole = (value) => value.toLocaleString("en");

/** @type {Record<string, string>} */
export const LABELS = {
  cpu: "useful CPU", gc: "collects garbage", stall: "atomic stall", spin: "spinning", gil: "waits for the GIL", lock: "waits for a lock",
  object: "waits for an object", "stop-the-world": "world stopped", import: "waits for an import",
  native: "waits in a native library", runnable: "ready, no core", stolen: "stolen by the host", idle: "idle", join: "idle: join",
  condition: "idle: condition", queue: "idle: queue", "sleep-io": "sleep and I/O", running: "running, or ready for a core",
  faults: "page faults", other: "other, in the kernel",
  kernel: "GPU: kernels", copy: "GPU: copies", resident: "GPU: context resident",
  held: "holds the GIL", waiting: "waits for another thread",
};

/** For who has never heard of them. @type {Record<string, string>} */
export const EXPLAINED = {
  cpu: "On a core, doing the program's own work.",
  gc: "Python's garbage collector looks for objects that nobody can reach any more.",
  stall: "On a core, but standing still: another core has just changed the memory this one needs, above all the reference count of an object that several threads use. Only without the GIL.",
  spin: "On a core, trying again and again to get a lock, in the hope that it is free sooner than sleeping and waking would take.",
  gil: "Wants to run Python code while another thread has the GIL (the global interpreter lock), which only one thread has at a time.",
  lock: "Wants a lock of the program's own (threading.Lock and what is made of it) that another thread has.",
  object: "Without the GIL each list, dict or other object has a small lock of its own; another thread has it.",
  "stop-the-world": "All threads stand still for a moment, so that one can do what nobody may see half done: collect garbage, or change a class.",
  import: "Imports a module that another thread is just importing.",
  native: "Wants a lock inside a C or C++ library that another thread has.",
  runnable: "Could run, but all cores are taken: by the program's other threads, or by other programs.",
  stolen: "This is a virtual machine, and its host gave the core to another one while the thread ran. Known for the whole machine only, so each thread's part is estimated.",
  idle: "Has no work: waits at an empty queue, for a condition or for another thread's end. Nobody's fault, and in no share.",
  "sleep-io": "Asleep by its own wish, or waiting for a disk, a network or a process.",
  running: "Between two waits. How much of it was running and how much ready is known only as a sum.",
};

/**
 * An element. Text is set as text: what a recording names is never markup.
 * @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node|string|null|undefined)} children
 * @returns {any}
 */
export const el = (tag, attributes = {}, ...children) => {
  const svg = ["svg", "path", "circle", "g", "text", "title", "line", "rect"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, item] of Object.entries(value)) made.style.setProperty(key, String(item));
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

/** A colour of the style sheet. @param {string} kind @returns {string} */
export const colour = (kind) => getComputedStyle(document.documentElement).getPropertyValue(`--k-${kind}`).trim() || "#888";

/** @param {string} kind @returns {HTMLElement} */
export const chip = (kind) => el("span", { class: "chip", title: EXPLAINED[kind] ?? null }, el("i", { class: `k-${kind}` }), LABELS[kind] ?? kind);

/** @param {() => void} work at most once a frame @returns {() => void} */
export const eachFrame = (work) => {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; work(); });
  };
};

/** @param {string} text @param {HTMLElement} button says that it was done */
export const copy = async (text, button) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
};

/** A group of buttons of which one is pressed.
 * @param {string} label @param {[string, string][]} options value and text @param {string} chosen @param {(value: string) => void} pick */
export const choice = (label, options, chosen, pick) => {
  const group = el("div", { class: "choice", role: "group", "aria-label": label });
  for (const [value, text] of options)
    group.append(el("button", { type: "button", "aria-pressed": value === chosen, onclick: (/** @type {Event} */ event) => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === event.currentTarget));
      pick(value);
    } }, text));
  for (const button of group.children) button.setAttribute("aria-pressed", String(button.hasAttribute("aria-pressed") && button.getAttribute("aria-pressed") !== "false"));
  return group;
};

/** @param {string} label @param {[string, string][]} options @param {(value: string) => void} pick */
export const select = (label, options, pick) => {
  const box = el("select", { onchange: () => pick(box.value) }, ...options.map(([value, text]) => el("option", { value }, text)));
  return el("label", { class: "field" }, el("span", {}, label), box);
};

/** @param {string} label @param {string} placeholder @param {(value: string) => void} changed */
export const search = (label, placeholder, changed) => {
  const box = el("input", { type: "search", placeholder, "aria-label": label, oninput: () => changed(box.value) });
  return box;
};
