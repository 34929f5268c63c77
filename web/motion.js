// The prior's choice "motion" names values for two other widgets: choosing one shows them there, and changing one of
// those by hand makes the choice "custom" again. The server takes the values from the choice itself.
import { app } from "../../scripts/app.js";

const NODES = ["FirstFrameSimilarityPrior", "FirstFrameSampler"];
const CUSTOM = "custom";
const VALUES = /t0 ([\d.]+), p ([\d.]+)/;

function follow(widget, changed) {
  const before = widget.callback;
  widget.callback = function (value, ...rest) {
    before?.call(this, value, ...rest);
    changed(value);
  };
}

app.registerExtension({
  name: "FirstFrame.motion",
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const [motion, start, keep] = ["motion", "start_time", "keep_probability"].map((name) =>
      node.widgets.find((widget) => widget.name === name)
    );
    follow(motion, (choice) => {
      const found = VALUES.exec(choice);
      if (found) [start.value, keep.value] = found.slice(1).map(Number);
    });
    for (const knob of [start, keep]) follow(knob, () => (motion.value = CUSTOM));
  },
});
