"""A DECLARED FUNCTION, AND WHAT ITS ATTEMPTS COME TO: decisions in plain code, without I/O.

Read `task` (with `arguments`, the types that `survival` lets through, and `retry`), `context`, `catalog`, `submission`,
`storable`, then `outcome`. Its words lie beside the package: `records`, `errors`, `status`, `limits`.
"""
