"""The engine of a session: in this process, or in a worker process of Dask on another computer."""
