"""What lies on the disk: whole or not there, private where it should be, and not for ever.

Read `private` (the server's own folder), `vault` (uploaded CTs, results) and `studies` (the studies folder);
then `uploads`, how files come in, and `accept` and `cases`, how a variant becomes a case. The others are what
these stand on.
"""
