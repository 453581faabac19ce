"""The microscope of the demo as a camera in a process of its own, and the viewer on what it films.

    python examples/live.py --rate 30

The camera waits for nobody. Its ring is published as "microscope", so other programs may look on as well: `ndshare view
microscope`, `ndshare top`, or a notebook. Ctrl-C ends the camera and the viewer.
"""

import argparse
import itertools
import signal
import sys
from multiprocessing.connection import wait

import numpy as np

import job
import microscope
import ndshare as nds
from job import Pace, Plan
from microscope import FRAME_SHAPE

NAME = "microscope"
KEPT = 16  # frames that the viewer can step back


def film(rate: float, ring: nds.Ring) -> None:
    """Be the camera, until somebody ends this process."""
    job.end_with_parent()
    specimen = microscope.prepare(job.SEED)
    rng, pace = np.random.default_rng(job.SEED), Pace(Plan(0, rate))
    for index in itertools.count():
        pace.wait(index)
        with ring.write() as frame:
            microscope.expose(specimen, index, rng, out=frame)
        del frame


def run(options: argparse.Namespace) -> None:
    """Film, and show it, until the camera ends or somebody interrupts."""
    ring = nds.Ring(FRAME_SHAPE, np.uint16, slots=KEPT, when_full="drop_oldest", keep=KEPT)
    nds.publish(options.name, ring)
    camera = job.CONTEXT.Process(target=film, args=(options.rate, ring), name="camera")
    with job.running([camera]), nds.view(ring, open_browser=not options.no_browser) as viewer:
        print(f"Live at {viewer.url}\nCtrl-C ends it. Who has this address sees what is shown.", flush=True)
        wait([camera.sentinel])
        job.still_alive([camera])


def main() -> int:
    """Run until Ctrl-C, which is how it is meant to end."""
    parser = argparse.ArgumentParser(description="A simulated microscope, and a live view of it in the browser.")
    parser.add_argument("--rate", type=float, default=30, help="frames/s of the camera (default: %(default)s)")
    parser.add_argument("--name", default=NAME, help="what its ring is published as (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    options = parser.parse_args()
    if not options.rate > 0:
        parser.error(f"--rate must be above 0, got {options.rate}")
    signal.signal(signal.SIGTERM, job.ended)
    try:
        run(options)
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:  # another one has the name, or the camera has failed
        print(f"live.py: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
