"""One Prefect flow a file. ``python -m flows <flow> --config <file>`` runs one."""

import tasks as tasks  # sets what Prefect reads from the environment when it is first imported
