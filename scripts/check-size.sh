#!/usr/bin/env bash
# No source file may need scrolling without end: at most 600 lines.
set -euo pipefail
cd "$(dirname "$0")/.."
long=$(git ls-files -- '*.rs' | xargs wc -l | awk '$2 != "total" && $1 > 600')
[ -z "$long" ] || { printf 'longer than 600 lines:\n%s\n' "$long"; exit 1; }
