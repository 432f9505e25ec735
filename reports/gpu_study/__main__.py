"""python -m reports.gpu_study [--call 1|2|3] [--out FOLDER]: see calls.py."""

import sys

from gilprobe.errors import GilprobeError

try:
    from reports.gpu_study.calls import main  # needs torch, as all of gilprobe.loader

    main()
except GilprobeError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
