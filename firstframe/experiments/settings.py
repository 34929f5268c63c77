"""What the settings in a report mean."""

SETTINGS = {
    "scenes": "rendered scenes that every number is a mean over, unless it says otherwise",
    "images": "images that are each animated in six ways",
    "seed_of_the_scenes": "another seed gives other scenes",
    "num_frames": "frames in a clip",
    "steps": "sampling steps (DDIM)",
    "cfg": "guidance, 1 = none; not used with dual guidance",
    "seed": "of the noise; every scene adds a number of its own",
    "keep_probability": "of the prior: share of the image that the start keeps sharp; the paper's p is 1 minus it",
    "start_time": "t0: where in the noise schedule sampling starts",
    "blur_kernel": "side of the prior's blur, in latent pixels",
    "scale_blur": "whether the blur follows the size of the latent",
    "blur_sigma": "its standard deviation, in latent pixels",
    "hold_first_frame": "the clean first frame is held in every step",
    "guidance": "dual guidance: one scale for the image, one for the text",
    "size": "height and width in pixels of a clip without a reference; the UNet's own where not given",
}
