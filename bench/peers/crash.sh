#!/bin/sh
# sh crash.sh FILE SECONDS NAME: notes its start in FILE, lives so long, and ends with an error. No Python: on a busy
# machine that would take longer to begin than this shall live.
date +%s.%N >>"$1"
sleep "$2"
exit 1
