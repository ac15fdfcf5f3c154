BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout TO {lock_timeout};
SET LOCAL statement_timeout TO {statement_timeout};
SET LOCAL idle_in_transaction_session_timeout TO {statement_timeout};
SET LOCAL enable_seqscan TO off;
