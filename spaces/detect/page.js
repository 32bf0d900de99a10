// Runs once, with `element`: the place of the answers. All boxes of a photo are in the page; the slider only shows
// those with its score or more, so that the net does not run again. No event of Gradio: visitors could send
// something to it.
const slider = () => document.querySelector("#score input[type=range]");

const told = (rows) => {
  const counts = new Map();
  for (const row of rows) counts.set(row.dataset.label, (counts.get(row.dataset.label) ?? 0) + 1);
  return [...counts].sort((one, other) => other[1] - one[1]).map(([label, count]) => `${count}\u00a0×\u00a0${label}`).join(", ");
};

// A crop is cut out of the photo when it is first shown, and is then an image that can be downloaded.
const cut = (photo, row) => {
  const [link, [left, top, right, bottom]] = [row.querySelector("a"), row.dataset.box.split(" ").map(Number)];
  const [wide, high] = [photo.naturalWidth, photo.naturalHeight];
  if (link.href || !wide) return;
  const canvas = document.createElement("canvas");
  const [x, y] = [Math.floor(left * wide), Math.floor(top * high)];
  canvas.width = Math.max(1, Math.ceil(right * wide) - x);
  canvas.height = Math.max(1, Math.ceil(bottom * high) - y);
  canvas.getContext("2d").drawImage(photo, -x, -y);
  link.href = link.firstChild.src = canvas.toDataURL("image/jpeg", 0.92);
};

const show = () => {
  const least = Number(slider()?.value ?? 0), every = [];
  for (const card of element.querySelectorAll(".photo")) {
    const photo = card.querySelector("figure img"), boxes = card.querySelectorAll(".box");
    const shown = [...card.querySelectorAll(".found > li")].filter((row, place) => {
      row.hidden = boxes[place].hidden = Number(row.dataset.score) < least;
      return !row.hidden;
    });
    if (photo.complete) shown.forEach((row) => cut(photo, row));
    else photo.addEventListener("load", show, {once: true});
    card.querySelector(".counts").textContent = told(shown) || "Nothing with this score. A lower one shows more.";
    every.push(...shown);
  }
  const photos = element.querySelectorAll(".photo").length;
  // Read out when it changes, while the focus stays where it is.
  const status = document.querySelector("#status p");
  if (status) status.textContent = photos ? `Found: ${told(every) || "nothing with this score"}` : "";
  watcher.takeRecords();
};
// On a phone the answer lies below the photo that was chosen; Gradio's own scrolling does not get there.
let went = "";
const go = () => {
  const mark = [...element.querySelectorAll(".photo figure img")].map((image) => image.src).join();
  if (!mark || mark === went) return;
  went = mark;
  setTimeout(() => {
    const {top} = element.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) element.scrollIntoView();
  }, 200);
};
const watcher = new MutationObserver(() => { show(); go(); });
watcher.observe(element, {childList: true, subtree: true});
document.addEventListener("input", (event) => {
  if (event.target.closest?.("#score")) requestAnimationFrame(show);
});

// The box of the row that the pointer or the focus is on stands out.
const point = (event) => {
  const row = event.target.closest?.(".found > li");
  const box = row?.closest(".photo").querySelectorAll(".box")[[...row.parentNode.children].indexOf(row)];
  element.querySelectorAll(".box.on").forEach((other) => other.classList.toggle("on", other === box));
  box?.classList.add("on");
};
for (const kind of ["pointerover", "focusin"]) element.addEventListener(kind, point);

// Gradio gives an example's picture no text: its button is called by its file's name, also when it is drawn anew.
const name = () => document.querySelectorAll("button.gallery-item img").forEach((image) => {
  const file = decodeURIComponent(image.src.split("/").pop());
  image.closest("button").ariaLabel = "Example: " + file.replace(/\.\w+$/, "").replaceAll("-", " ");
});
new MutationObserver(name).observe(document.body, {childList: true, subtree: true, attributeFilter: ["src"]});
name();
show();
