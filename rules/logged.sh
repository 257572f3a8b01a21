# Sourced by every job's shell.

# What comes in goes to the terminal and into the log $1, there under a line that says when and where. The logs of the
# four tries before are kept: x.log is the newest, then x.1.log to x.4.log. Snakemake deletes x.log before a job starts,
# so its copy .x.log becomes x.1.log. A disk that is full must not stop the job here: its own words are needed.
logged() {
    local stem="${1%.log}" n
    local copy="$(dirname "$1")/.$(basename "$1")"
    for n in 3 2 1; do
        if [ -e "$stem.$n.log" ]; then mv -f "$stem.$n.log" "$stem.$((n + 1)).log" || true; fi
    done
    if [ -s "$copy" ]; then mv -f "$copy" "$stem.1.log" || true; fi
    local when="$(date '+%Y-%m-%d %H:%M:%S %Z') on $(uname -n)${SLURM_JOB_ID:+, Slurm job $SLURM_JOB_ID}"
    echo "$when" | tee "$1" > "$copy" || true
    tee -a "$1" "$copy"
}
