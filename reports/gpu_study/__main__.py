"""python -m reports.gpu_study [--call 1|2|3] [--out FOLDER]: see calls.py."""

import sys
import time

from gilprobe.errors import GilprobeError

BEGUN_S = time.monotonic()  # importing torch may take long on a fresh machine, and counts

try:
    from reports.gpu_study.calls import main  # needs torch, as all of gilprobe.loader

    main(BEGUN_S)
except GilprobeError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
