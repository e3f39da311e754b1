"""ComfyUI's API format, `{id: {"class_type", "inputs", "_meta"?}}`, to a Spindle workflow.

graph      reads and bounds the document: nodes, links, what leads to an output, in which order
classes    what each class takes and gives
things     what passes along links while translating: models, prompts, latents, pictures
loaders, prompts, sampling, pictures, custom
what each class becomes
translate  goes through the nodes in order
"""

from spindle_control.importers.comfyui.translate import translate

__all__ = ["translate"]
