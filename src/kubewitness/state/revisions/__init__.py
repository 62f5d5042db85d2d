"""How the state database became what it is: one module a step, run in order by ``migration``.

A step is an Alembic revision whose ``upgrade`` is given the operations. What was released is never
changed: a new step is added instead, one that the versions before can live with where possible.
"""
