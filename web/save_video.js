// Save Video: %date:yyyy-MM-dd% and %Node.widget% in the file name, as in ComfyUI's own nodes that save, and videos that
// play by themselves, again and again, without sound until the user wants it.
import { app } from "../../scripts/app.js";

const LOOKS = 20;
const BETWEEN_LOOKS = 250; // milliseconds; the editor makes the player some time after the run
const started = new WeakSet();

function playAlone(node, looks = LOOKS) {
  for (const { element } of node.widgets ?? []) {
    for (const video of element?.querySelectorAll?.("video") ?? []) {
      if (started.has(video)) continue;
      started.add(video);
      video.loop = video.muted = true;
      const play = () => video.play().catch(() => {}); // a browser may refuse
      video.addEventListener("loadeddata", play);
      play();
    }
  }
  if (looks) setTimeout(() => playAlone(node, looks - 1), BETWEEN_LOOKS);
}

app.registerExtension({
  name: "FirstFrame.SaveVideo",
  nodeCreated(node) {
    if (node.comfyClass !== "FirstFrameSaveVideo") return;
    const prefix = node.widgets.find((widget) => widget.name === "filename_prefix");
    prefix.serializeValue = () => window.comfyAPI.utils.applyTextReplacements(app, prefix.value);
    const before = node.onExecuted;
    node.onExecuted = function (...output) {
      before?.apply(this, output);
      playAlone(this);
    };
  },
});
