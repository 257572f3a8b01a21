"""The settings of each stage with their defaults, in pipeline order: one model a stage."""

from typing import Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from expportrait.errors import UserError
from expportrait.settings.section import Place, Section


class Split(Section):
    """Long videos cut into the clips of a manifest: each a run of frames of one person."""

    sources: Place | None = Field(None, description="table of the videos, for snakemake -s rules/split.smk")
    shards: int = Field(0, ge=0, description="jobs among which the table's videos are shared out; 0: some 16 in each")
    min_seconds: float = Field(2.0, gt=0, description="shortest clip, s")
    max_seconds: float = Field(30.0, gt=0, description="longest clip, s; longer runs are cut into equal parts")
    min_face: float = Field(
        128, gt=0, description="smallest face, hairline to chin, px of the source: half of what 512 px crops show"
    )
    max_roll: float = Field(60.0, gt=0, le=180, description="largest roll of the face in the picture, degrees")
    max_gap: float = Field(
        0.5, ge=0, description="longest time within a clip in which the face is not found, or not usable, s"
    )
    look_every: int = Field(
        10, ge=1, description="look for faces in every so many frames, and between where they change"
    )
    dissolve: float = Field(
        12.0, ge=0, le=255, description="least mean change of colour over a dissolve or fade; 255: none are looked for"
    )


class Demo(Section):
    """Short clips animated from two public-domain portraits, with known motion."""

    frames: int = Field(50, ge=49, description="frames a clip, at 25 a second")
    size: int = Field(512, ge=128, description="height and width of the clips, px")
    yaw: float = Field(15.0, ge=0, le=20, description="largest head turn, degrees; past 20 the warp shows")


class HeadSettings(Section):
    """The parametric head shared by geometry, proxy, control, carry, transfer, drive and appearance."""

    file: Place | None = Field(
        None, description="SMPL-X file (SMPLX_NEUTRAL.npz); empty: the open head that is shipped"
    )
    subdivisions: int = Field(1, ge=0, le=2, description="midpoint subdivisions from the coarse to the dense mesh")
    shape_components: int = Field(100, ge=1, le=300, description="shape coefficients used, at most what the file has")
    expression_components: int = Field(
        100, ge=1, le=100, description="expression coefficients used, at most what the file has"
    )


class Crop(Section):
    """One fixed square box a clip around the face, in its longest shot with a usable face."""

    size: int = Field(512, ge=128, description="height and width of the cropped frames, px")
    scale: float = Field(2.2, gt=1, description="side of the box over the larger side of the face, hairline to chin")
    lift: float = Field(0.03, ge=-0.5, le=0.5, description="centre of the box above the face's, over the box's side")
    min_scale: float = Field(
        1.4, gt=1, description="the box shrinks down to this to fit the image, before it is padded"
    )
    min_face: float = Field(70, ge=0, description="smallest face, hairline to chin, px of the source")
    min_frames: int = Field(
        10, ge=1, description="shortest clip, frames; a source of one frame is a portrait and passes"
    )
    min_coverage: float = Field(0.7, ge=0, le=1, description="share of the frames looked at that must show the face")
    max_others: float = Field(
        1.0, ge=0, le=1, description="share of the frames that may show another face in the box; 1: all"
    )
    min_sharpness: float = Field(
        3.0, ge=0, description="least variance of the Laplacian in the face at 128 px, median; a sharp face has 30 up"
    )
    min_brightness: float = Field(15.0, ge=0, le=255, description="least mean grey value of the face, of 255, median")
    max_brightness: float = Field(
        245.0, ge=0, le=255, description="largest mean grey value of the face, of 255, median"
    )
    detect_every: int = Field(5, ge=1, description="look for faces in every so many frames")
    cut: float = Field(
        15.0, ge=0, le=255, description="least change of colour at a cut (PySceneDetect's content value); 255: no cuts"
    )
    folder_fps: float = Field(25.0, gt=0, description="frames a second of folders of images")


class Landmarks(Section):
    """478 face landmarks a frame."""

    detector: Literal["mediapipe", "sapiens"] = Field(
        "mediapipe", description="whose points; sapiens needs a file (docs/estimators.md) and has a third of them"
    )
    model: Place | None = Field(None, description="sapiens: its network of 308 key points (TorchScript)")
    max_gap: int = Field(10, ge=0, description="longest run of frames without a face that is interpolated")
    min_found: float = Field(0.7, ge=0, le=1, description="share of the frames that must show the face")
    max_missing: int = Field(250, ge=0, description="longest run of frames without a face that a clip may have")
    max_yaw: float = Field(65.0, gt=0, le=180, description="largest median turn to the side, degrees, roughly")
    max_pitch: float = Field(65.0, gt=0, le=90, description="largest median turn up or down, degrees, roughly")
    max_outside: float = Field(
        0.2, ge=0, le=1, description="share of the face that may lie beyond the picture's edge, median over the frames"
    )
    max_roll: float = Field(60.0, gt=0, le=180, description="largest median roll to the side, in the picture, degrees")
    hands_every: int = Field(10, ge=0, description="look for hands in every so many frames; 0: never")
    max_hands: float = Field(
        0.8, ge=0, le=1, description="share of the frames looked at that may have a hand before the face"
    )
    max_unsure: float = Field(
        0.9, ge=0, le=1, description="share of the frames that may have a quarter of their points unsure: hands, blur"
    )
    identity: Literal["sface", "arcface"] | None = Field(
        None,
        description="whose faces tell whether a clip is one person; empty: arcface where it is given, else nobody's",
    )
    arcface: Place | None = Field(None, description="identity arcface: its network (ONNX), a file of yours")
    min_identity: float = Field(
        0.2, ge=-1, le=1, description="arcface: likeness, a cosine, below which a frame shows somebody else"
    )
    min_sface: float = Field(0.35, ge=-1, le=1, description="sface, which is shipped: the same")
    max_others: float = Field(
        0.1, ge=0, le=1, description="identity: share of the frames looked at that may show somebody else"
    )

    @property
    def embedder(self) -> str | None:
        """Whose faces are compared: sface, arcface, or None."""
        return self.identity or ("arcface" if self.arcface else None)


class GeometrySettings(Section):
    """Normals, depth and mask of head and shoulders."""

    estimator: Literal["david", "sapiens", "embedded"] = Field(
        "david", description="which estimator; the first two need files (docs/estimators.md), embedded does not"
    )
    model: Place | None = Field(None, description="david: its multi-task network (ONNX), instead of the next three")
    normals: Place | None = Field(None, description="david (ONNX), sapiens (TorchScript): network of surface normals")
    depth: Place | None = Field(None, description="david, sapiens: network of relative depth")
    mask: Place | None = Field(None, description="david: network of the foreground; sapiens: of body parts")
    occlusion: bool = Field(True, description="no confidence in what hands and things in front of the face show")
    hands_every: int = Field(5, ge=0, description="look for hands in every so many frames, and around them; 0: never")
    grid: int = Field(96, ge=32, le=512, description="embedded: cells a side on which normals and depth are solved")


class Weights(Section):
    """What each loss of the fit counts, by its term's name; ``_coarse`` in stage (c) and steps of the coarse head."""

    model_config = ConfigDict(allow_inf_nan=False)

    landmark: float = Field(4.0, ge=0, description="weight of the landmarks' error, eq. (5), per inter-ocular distance")
    landmark_coarse: float = Field(5.0, ge=0, description="weight of the landmarks in stage (c)")
    normal: float = Field(
        1.0, ge=0, description="weight of the normals' error, eq. (6): 1 - cosine, plus half the L1 distance"
    )
    normal_bias: float = Field(
        0.3, ge=0, description="weight on the smooth error of the estimated normals that moves with the head, per rad^2"
    )
    depth: float = Field(15.0, ge=0, description="weight of the depth's error after scale and shift, eq. (6), per m")
    depth_coarse: float = Field(15.0, ge=0, description="weight of the depth's error in stage (c), per m")
    silhouette: float = Field(2.0, ge=0, description="weight of the silhouette, L_sil: coverage against the mask")
    outline: float = Field(
        20.0, ge=0, description="weight of the outline's distance to the mask's in the linear steps, per m"
    )
    shape: float = Field(0.005, ge=0, description="weight of the mean squared shape coefficient")
    expression: float = Field(0.002, ge=0, description="weight of the mean squared expression coefficient, eq. (7)")
    expression_coarse: float = Field(
        5e-4, ge=0, description="weight of the mean squared expression coefficient in stages (c) and (d)"
    )
    activation: float = Field(
        10.0, ge=0, description="weight of the mean square by which face units leave 0 to 1; SMPL-X files have none"
    )
    blendshapes: float = Field(
        0.01, ge=0, description="weight of the mean squared difference from the expression of a network's blendshapes"
    )
    focal: float = Field(0.05, ge=0, description="weight of the squared log ratio of the focal length to its start")
    focal_coarse: float = Field(
        40.0, ge=0, description="weight of the squared change of its logarithm in a Gauss-Newton step"
    )
    neck: float = Field(0.02, ge=0, description="weight of the turns of neck and head, per rad^2")
    torso: float = Field(0.05, ge=0, description="weight of the root's turn away from facing the camera, per rad^2")
    torso_motion: float = Field(
        0.1, ge=0, description="weight of the root's turn away from its mean over the clip, per rad^2"
    )
    jaw: float = Field(0.01, ge=0, description="weight of the jaw's turn, per rad^2")
    eyes: float = Field(
        0.02, ge=0, description="weight of each eye's turn, and of the difference between the two, per rad^2"
    )
    shoulders: float = Field(0.2, ge=0, description="weight of the turns of collars and shoulders, per rad^2")
    static_magnitude: float = Field(
        1e-4, ge=0, description="weight of the squared length of D_s, L_mag with lambda_s, per mm^2"
    )
    static_tangent: float = Field(
        0.003, ge=0, description="weight of the squared length of D_s along the surface, per mm^2"
    )
    dynamic_magnitude: float = Field(
        2e-4, ge=0, description="weight of the squared length of D_t, L_mag with lambda_d, per mm^2"
    )
    dynamic_tangent: float = Field(
        0.3, ge=0, description="weight of the squared length of D_t along the surface, per mm^2"
    )
    static_laplacian: float = Field(0.3, ge=0, description="weight of the smoothness of D_s, L_lap, per mm^2")
    dynamic_laplacian: float = Field(0.02, ge=0, description="weight of the smoothness of D_t, L_lap, per mm^2")
    strain: float = Field(
        0.07, ge=0, description="weight of the squared stretch of D_s, which keeps chin, ears, lips from folding"
    )
    dynamic_strain: float = Field(0.0075, ge=0, description="weight of the squared stretch of D_t")
    temporal_offset: float = Field(
        0.01, ge=0, description="weight of the change of D_t from frame to frame, L_tmp, per mm^2"
    )
    temporal_expression: float = Field(
        0.02, ge=0, description="weight of the change of the expression coefficients, L_tmp"
    )
    temporal_pose: float = Field(1.0, ge=0, description="weight of the change of the rotations, L_tmp")
    temporal_place: float = Field(
        20.0, ge=0, description="weight of the change of the neck's place (image sizes) and log depth, L_tmp"
    )


class Proxy(Section):
    """The personalised head of a clip: five fit stages, from landmarks to both offset fields (paper, section 3.1)."""

    # Weights once stood among the settings; keys still know them so.
    renamed: ClassVar[dict[str, str]] = {f"w_{name}": f"weights.{name}" for name in Weights.model_fields}

    init: Literal["fit", "file"] = Field(
        "fit", description="coarse start: fit to landmarks, or read pre-tracked SMPL-X"
    )
    init_dir: Place | None = Field(None, description="init: file reads <init_dir>/<clip>.npz (docs/proxy.md)")
    focal: float = Field(3.0, gt=0.5, description="focal length at the start, over the image size")

    rigid_steps: int = Field(100, ge=1, description="(a) steps on pose and place, all frames at once")
    landmark_steps: int = Field(
        140, ge=1, description="(b) steps on shape, expression, all joints and focal length too"
    )
    coarse_passes: int = Field(2, ge=0, description="(c) Gauss-Newton steps on the coarse surface; 0 keeps it still")
    static_passes: int = Field(4, ge=0, description="(d) rounds of a step of the static offsets and one of the head")
    dynamic_passes: int = Field(
        1, ge=0, description="(e) rounds of a step of the static and one of the dynamic offsets"
    )
    dynamic_steps: int = Field(
        3, ge=1, description="(e) steps of the dynamic offsets a round, each from where the last one led"
    )
    final_passes: float = Field(2, ge=0, description="(e) passes over the frames with both offset fields, by pixels")
    min_steps: int = Field(10, ge=1, description="least steps of the final passes, for short clips and single images")
    batch: int = Field(4, ge=1, description="frames a step of the final passes")
    coarse_size: int = Field(128, ge=32, description="image size at which guards compare, px")
    fine_size: int = Field(256, ge=32, description="image size of stages (c) to (e), px")

    dynamic_size: int = Field(
        512, ge=32, description="image size at which D_t is looked for in (e), px; a clip's own where that is less"
    )

    offsets: Literal["both", "dynamic", "none"] = Field(
        "both", description="offset fields fitted; less than both is an ablation: D_t alone, or the coarse head"
    )
    disentangle: bool = Field(
        True,
        description="masks m_s and m_d and zero-mean D_t (3.1.3); false is an ablation: both fields act everywhere",
    )
    static_on_face: float = Field(1.0, ge=0, le=1, description="m_s on the face for clips; hair, neck, clothes have 1")
    static_on_face_single: float = Field(0.1, ge=0, le=1, description="m_s on the face where one image is all there is")
    max_aside: float = Field(
        0.8, ge=0, le=1, description="share of the frames whose landmarks may be guesses in far turns (docs/proxy.md)"
    )
    max_growth: float = Field(0.06, ge=0, description="farthest from the scalp that hair starts, m")

    iris_weight: float = Field(2.0, ge=0, description="weight of the ten iris points among the landmarks")
    lid_weight: float = Field(3.0, ge=0, description="weight of the eyelids' points")
    lip_weight: float = Field(2.0, ge=0, description="weight of the lips' points")

    weights: Weights = Field(Weights(), description="what each loss counts, one a term (docs/proxy.md)")


class Control(Section):
    """Control maps rendered from the proxy."""

    maps: list[Literal["depth", "region", "eyes"]] = Field([], description="maps rendered beside the normals")


class Latents(Section):
    """Windows of frames through the video codec, once, before the generator trains."""

    codec: Literal["wan", "linear"] = Field("wan", description="Wan's video VAE, or cosine blocks that need no weights")
    vae: Place | None = Field(
        None, description="weights of Wan's VAE (diffusers' vae/*.safetensors, config.json beside)"
    )
    channels: int = Field(32, ge=1, description="linear: latent channels")
    space: Literal[4, 8] = Field(8, description="linear: px of a latent, each way")
    size: int = Field(512, ge=16, description="height and width of the generator's frames, px")
    window: int = Field(49, ge=1, description="frames a window, 4k+1")
    stride: int = Field(
        32, ge=1, description="frames from one window's start to the next; the training reads multiples of 16 fastest"
    )
    references: int = Field(
        8, ge=1, description="frames a clip kept as reference portraits, spread over it from the first"
    )

    @field_validator("window")
    @classmethod
    def _whole_latents(cls, window: int) -> int:
        if window % 4 != 1:
            low = max(1, (window - 1) // 4 * 4 + 1)
            raise ValueError(f"a window has 4k+1 frames, such as {low} or {low + 4}")
        return window

    @field_validator("size")
    @classmethod
    def _whole_tokens(cls, size: int, others: ValidationInfo) -> int:
        grid = 2 * (others.data.get("space", 8) if others.data.get("codec") == "linear" else 8)
        if size % grid:
            raise ValueError(f"sizes are multiples of {grid} px, such as {max(grid, size // grid * grid)}")
        return size


class Carry(Section):
    """Training windows made of reference portraits by their heads, where generator.maps asks for them."""

    portraits: int = Field(
        1, ge=1, description="reference portraits a window, spread over the clip in distance of pose"
    )


class Transfer(Section):
    """Expression transfer: what a driver's expression does to another head's fine geometry (paper, section 3.2)."""

    encoder_width: int = Field(256, ge=8, description="channels of the temporal encoder, eq. (8)")
    code: int = Field(128, ge=4, description="size of the code z of a frame")
    vertex_width: int = Field(128, ge=8, description="hidden layers of the vertices' network, eq. (9)")
    steps: int = Field(20000, ge=1, description="training steps")
    clips: int = Field(8, ge=1, description="clips a step")
    window: int = Field(128, ge=2, description="frames of a clip that the encoder sees in a step")
    frames: int = Field(
        32, ge=4, multiple_of=2, description="frames of that window that are compared, in pairs of neighbours"
    )
    vertices: int = Field(2048, ge=1, description="facial vertices a step")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of Adam at the start; falls as a cosine")
    w_velocity: float = Field(
        0.5, ge=0, description="weight of the error of the offsets' change from frame to frame, per mm"
    )
    w_magnitude: float = Field(1e-3, ge=0, description="weight of the squared offset, per mm^2")
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    seed: int = Field(0, ge=0, description="seed of every random choice")


class Drive(Section):
    """Control maps of each pair: the driver's expression and head motion on the target's head (paper, section 3.2)."""

    target_proxy: Literal["image", "clip"] = Field(
        "image", description="target's head, fitted from its reference frame alone, or from its whole clip"
    )
    reference: int = Field(0, ge=0, description="the target's reference frame")
    offsets: Literal["transfer", "copy", "static", "none"] = Field(
        "transfer",
        description="D_t: transfer module, driver's copied, or 0 (static: D_s alone; none: plain body model)",
    )
    pose: Literal["absolute", "relative"] = Field(
        "absolute", description="the head faces where the driver's does, or turns as the driver does from its anchor on"
    )
    anchor: Literal["first", "mean"] = Field(
        "first", description="frame of another clip, or its mean, that stands for the target's reference pose"
    )
    expression: Literal["absolute", "relative"] = Field(
        "absolute", description="the driver's expression, or the portrait's own and the driver's change from its anchor"
    )
    gaze: Literal["driver", "camera"] = Field(
        "driver", description="the eyes turn in the head as the driver's, or look into the camera as far as they can"
    )
    hold: list[Literal["pose", "expression"]] = Field(
        [], description="what stays as it is in the portrait: head pose, or expression with jaw and eyes"
    )
    max_move: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="m that the neck may move from the portrait's place, softly; empty: as far as the driver's does",
    )
    smooth: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="s, sigma of the Gaussian over the driver's motion; 0: none"
    )
    gain_expression: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="share of the expression that the face takes: of its shape, not of jaw and eyes",
    )
    gain_mouth: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="the same around the mouth, times gain_expression"
    )
    gain_eyes: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="the same around the eyes, times gain_expression"
    )
    gain_lids: float = Field(1.0, ge=0, allow_inf_nan=False, description="the same of the eyelids, times gain_eyes")
    gain_brows: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="the same of the brows, times gain_expression"
    )
    gain_jaw: float = Field(1.0, ge=0, allow_inf_nan=False, description="share of the jaw's turn that the face takes")
    gain_gaze: float = Field(1.0, ge=0, allow_inf_nan=False, description="share of the eyes' turns that the face takes")
    gain_pose: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="share of the head's turns and moves, from the portrait's pose on, that the head takes",
    )


class Appearance(Section):
    """Each pair's portrait in its own colours, carried along by the driven head: a film without any network."""

    rim: float = Field(
        9.0, gt=2, description="px of 512 inside the head's outline from which on what was never shown is the head"
    )
    still: float = Field(
        8.0, gt=1, description="px of 512: what moves farther leaves the portrait's own soft rim behind"
    )
    body: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of a small fitted motion that the body below the neck takes; of a large one, all",
    )
    body_follows: bool = Field(
        True,
        description="the body takes a large fitted motion; false: it stays, for pictures that go on around the crop",
    )


class Generator(Section):
    """The video generator, trained on the control maps and latents of the split train (paper, section 3.3)."""

    first_defaults: ClassVar[dict[str, Any]] = {"batch": 1}

    preset: Literal["tiny", "mid", "1.3B", "14B"] = Field(
        "1.3B", description="size of the transformer; the large two are Wan 2.1's, mid is for measurements"
    )
    base: Place | None = Field(
        None, description="pretrained weights (diffusers' transformer/*.safetensors or its .index.json)"
    )
    lora_rank: int = Field(
        0, ge=0, description="0: train all weights; else low-rank updates of this rank (14B: 64 to 128)"
    )
    maps: list[Literal["normals", "coverage", "depth", "region", "eyes", "appearance", "seen"]] = Field(
        ["normals", "coverage"],
        min_length=1,
        description="control maps; depth, region, eyes where control.maps has them; "
        "appearance and seen, which are ours, carry the portrait itself to every frame (docs/carry.md)",
    )
    reference: Literal["conv", "latent_frame", "both"] = Field(
        "both", description="the portrait through the 2D encoder (the paper), as one more latent frame, or both"
    )
    prediction: Literal["velocity", "x0"] = Field(
        "velocity", description="what the network gives; x0, around the reference, is for training from random weights"
    )
    loss_weight: Literal["velocity", "noise", "sample"] = Field(
        "velocity", description="which error counts evenly over noise levels; noise is eq. (10)"
    )
    shift: float = Field(3.0, gt=0, description="moves training to stronger noise; below 3, control is learnt late")
    drop_reference: float = Field(0.1, ge=0, le=0.5, description="share of samples without reference")
    drop_control: float = Field(0.1, ge=0, le=0.5, description="share of samples without control")
    drop_both: float = Field(0.05, ge=0, le=0.5, description="share of samples without either")
    steps: int = Field(30000, ge=1, description="training steps")
    batch: int = Field(4, ge=1, description="windows a step, over all processes (GPUs) together")
    micro: int = Field(
        1, ge=1, description="windows that a process holds at once; changes memory and time, not what is learnt"
    )
    learning_rate: float = Field(1e-5, gt=0, description="learning rate of AdamW; with LoRA take about 1e-4")
    rate_new: float = Field(
        1.0, gt=0, description="times the learning rate, for new layers: the encoders and the patch embedding"
    )
    rate_lora: float = Field(1.0, gt=0, description="times the learning rate, for low-rank updates")
    optimizer: Literal["adamw", "adamw8bit"] = Field(
        "adamw", description="adamw8bit: moments in 8 bits, a quarter of the memory, by the package bitsandbytes"
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="course of the learning rate after the warm-up"
    )
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="share of the weights' moving average that a step keeps; 0: the last step's weights",
    )
    precision: Literal["no", "bf16"] = Field("bf16", description="bf16: mixed precision, for GPUs; no: float32")
    checkpointing: Literal["none", "full", "selective"] = Field(
        "selective", description="recompute activations; selective keeps what attention gave"
    )
    attention: str = Field(
        "auto", description="diffusers' attention backend, such as native, _native_cudnn, flash, xformers"
    )
    compile: Literal["none", "inductor", "aot_eager"] = Field(
        "none", description="compile each block: inductor, for GPUs; aot_eager, which makes no code, is for tests"
    )
    sharding: Literal["auto", "replicate", "shard"] = Field(
        "auto", description="whether processes hold all weights each or a part; auto: parts above 16 GiB with optimizer"
    )
    shard_over: int = Field(
        0, ge=0, description="processes that the parts of one model lie on, such as a node's GPUs; 0: all of them"
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="threads of a process that read and prepare windows ahead; empty: one, beside a GPU one a core up "
        "to 4; 0: none, each window is waited for",
    )
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="how many of the newest checkpoints are kept")
    look_every: int = Field(
        500, ge=0, description="steps from look to look at held-out clips, at most a twentieth of the time; 0: none"
    )
    look_steps: int = Field(10, ge=1, description="sampling steps of a look's film")
    log: Literal["none", "tensorboard", "wandb"] = Field(
        "none", description="where log and looks go beside their files; by the package of that name"
    )
    seed: int = Field(0, ge=0, description="seed of every random choice")

    @field_validator("maps")
    @classmethod
    def _some_drawn(cls, maps: list[str]) -> list[str]:
        if not {*maps} - {"appearance", "seen"}:
            raise ValueError("at least one map drawn from the head is needed, such as normals")
        return maps

    @property
    def by_portrait(self) -> bool:
        """Whether maps are wanted that carry the portrait itself along."""
        return not {"appearance", "seen"}.isdisjoint(self.maps)

    def rounds(self, processes: int = 1) -> int:
        """How many times ``micro`` windows each process takes in a step, one after the other.

        Raises UserError where that is no whole number.
        """
        at_once = processes * self.micro
        if self.batch % at_once:
            who = "one process takes" if processes == 1 else f"{processes} processes take"
            raise UserError(
                f"generator.batch is {self.batch}, but {who} {at_once} windows at once (generator.micro is "
                f"{self.micro}): the batch has to be a multiple of that"
            )
        return self.batch // at_once


class Reenact(Section):
    """Each pair's video: the target's portrait moved by the driver's control maps."""

    steps: int = Field(20, ge=1, description="sampling steps, Euler's method")
    shift: float = Field(3.0, gt=0, description="moves the steps to stronger noise")
    reference_scale: float = Field(1.0, ge=0, description="guidance by the reference; other than 1 costs more passes")
    control_scale: float = Field(1.0, ge=0, description="guidance by the control maps; other than 1 costs another pass")
    overlap: int = Field(9, ge=0, description="frames over which neighbouring windows cross-fade, less than a window")
    detail: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the appearance's own pixels kept where the portrait was seen",
    )
    seed: int = Field(0, ge=0, description="seed of the noise")


class Evaluate(Section):
    """Each pair's video measured against its driver, beside copying the portrait and the paper's published rows."""

    first_defaults: ClassVar[dict[str, Any]] = {"tracker": "own"}

    stride: int = Field(4, ge=1, description="every so many frames are measured")
    lpips: Literal["alex", "vgg", "squeeze"] | None = Field(
        None, description="network of LPIPS, by the package lpips; empty: by the next two, else the shipped AlexNet"
    )
    lpips_backbone: Place | None = Field(None, description="LPIPS by own code: AlexNet's weights, torchvision's file")
    lpips_linear: Place | None = Field(None, description="LPIPS by own code: its linear layers for alex, version 0.1")
    tracker: Literal["blendshapes", "own", "smirk", "deep3d"] = Field(
        "blendshapes",
        description="what AED, APD, jaw and gaze rest on: the shipped blendshape network, the own tracker, which the "
        "fit is made of, or coefficient files of smirk or deep3d",
    )
    tracks: Place | None = Field(
        None, description="smirk, deep3d: folder of those files, one a video (docs/estimators.md)"
    )
    arcface: Place | None = Field(None, description="ArcFace network for CSIM (ONNX); empty: the shipped SFace")

    @property
    def by_files(self) -> bool:
        """Whether motion is read from coefficient files."""
        return self.tracker in ("smirk", "deep3d")


class Report(Section):
    """One HTML page on the whole run."""

    max_clips: int = Field(48, ge=0, description="clips shown with pictures; counts and reasons cover all")
    max_pairs: int = Field(48, ge=0, description="pairs shown with a film; counts, reasons and means cover all")
    max_films: int = Field(4, ge=0, description="of these, the films that open the page")
    first: Literal["spread", "failed"] = Field(
        "spread", description="which clips and pairs are shown: some of every shard, or those that failed first"
    )
    max_rows: int = Field(2000, ge=1, description="rows of the table of reasons; failures.csv has all")
    frames: int = Field(8, ge=1, le=24, description="frames in a clip's strip")
    size: int = Field(384, ge=64, le=1024, description="height and width of the pictures, px")
    video_seconds: float = Field(10.0, gt=0, description="length of a film, from the clip's start")
