"""Work that outlives the process which does it: what is kept of a job, where, and how it goes on."""
