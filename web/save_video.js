// %date:yyyy-MM-dd% and %Node.widget% in the file name of Save Video, as in ComfyUI's own nodes that save.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "FirstFrame.SaveVideo",
  nodeCreated(node) {
    if (node.comfyClass !== "FirstFrameSaveVideo") return;
    const prefix = node.widgets.find((widget) => widget.name === "filename_prefix");
    prefix.serializeValue = () => window.comfyAPI.utils.applyTextReplacements(app, prefix.value);
  },
});
