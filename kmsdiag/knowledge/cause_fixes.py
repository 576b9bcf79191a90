"""What to do next, where causes seen from outside and causes that clients and hosts report ask for the same."""

from typing import Final

from kmsdiag.model.fix import Fix, Where

TEST_PORT: Final = Fix(Where.CLIENT, "test the path from a client", "Test-NetConnection {target} -Port {port}")
CLEAR_OVERRIDE: Final = Fix(
    Where.CLIENT,
    'where slmgr /dlv shows this host as "Registered KMS machine name", return to DNS discovery',
    "slmgr /ckms",
)
SEE_COUNT: Final = Fix(Where.KMS_HOST, "see the count, and that of every other host", "slmgr /dlv")
COMPARE_IDS: Final = Fix(Where.CLIENT, "compare the client machine IDs (CMID) of two clients", "slmgr /dlv")
