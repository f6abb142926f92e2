"""Many files: the same work on each, on the cores of this computer or on a Dask cluster, resumed where it stopped.

A *job* says what is done with a file, a *plan* lists the pieces (one file each), and a *journal* beside the results
says which pieces are done. Dask queues the pieces, runs them in worker processes and repeats those that fail.
"""
