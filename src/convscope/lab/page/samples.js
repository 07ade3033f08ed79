// Images of the data set, if there are any; a script of its own, which the one HTML file has only if it holds images.
import { LabSamples, placeSamples } from "./samples/view.js";

customElements.define("lab-samples", LabSamples);
document.addEventListener("samples", (event) => {
  const { lab, input, inside } = /** @type {CustomEvent} */ (event).detail;
  const element = new LabSamples(lab, input, inside);
  placeSamples(element);
  lab.join(element);
});
