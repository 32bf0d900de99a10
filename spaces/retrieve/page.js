// Runs once for each place, with `element`: that of the garments of a photo, and that of the answers.
const status = (text) => {
  const told = document.querySelector("#status p");
  if (told && told.textContent !== text) told.textContent = text; // read out when it changes
};

// Which garment is meant.
element.addEventListener("change", (event) => {
  if (event.target.name !== "garment") return;
  trigger("select", {garment: event.target.value === "" ? null : Number(event.target.value)});
});

// More like one that was found; "" takes it away. The button goes with the old answer, so the focus goes to the new one.
let asked = false, went = "";
element.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-like]");
  if (!button) return;
  asked = true;
  trigger("click", {id: button.dataset.like});
});

// Gradio changes of the HTML what differs from that before: perhaps a text alone, or the mark of an answer.
const watched = {childList: true, subtree: true, characterData: true, attributeFilter: ["data-go"]};

if (!element.closest("#answers")) {
  let photo = "";
  new MutationObserver(() => {
    const {go} = element.querySelector("fieldset")?.dataset ?? {};
    if (go && go !== photo) element.querySelector("input").checked = true; // of a new photo the whole is meant
    photo = go;
  }).observe(element, watched);
} else {
  const show = () => {
    const heading = element.querySelector(".said h2"), mark = element.querySelector(".said")?.dataset.go;
    status(heading ? heading.textContent : "");
    if (mark && mark !== went) {
      went = mark;
      setTimeout(() => { // not before the browser has brought the field into sight that Enter was pressed in
        const {top} = element.getBoundingClientRect();
        if (top < 0 || top > innerHeight / 2) element.scrollIntoView();
      }, 200);
    }
    if (asked && heading) {
      asked = false;
      heading.focus({preventScroll: true});
    }
  };
  new MutationObserver(show).observe(element, watched);
  show();

  // Gradio gives an example's picture no text: its button is called by its file's name, also when it is drawn anew.
  const name = () => document.querySelectorAll("button.gallery-item img").forEach((image) => {
    const file = decodeURIComponent(image.src.split("/").pop());
    image.closest("button").ariaLabel = "Example: " + file.replace(/\.\w+$/, "").replaceAll("-", " ");
  });
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true, attributeFilter: ["src"]});
  name();
}
