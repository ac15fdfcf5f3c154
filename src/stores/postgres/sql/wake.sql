SELECT {class} AS class, {channel} AS channel,
       current_setting('max_locks_per_transaction')::bigint AS share,
       current_setting('max_locks_per_transaction')::bigint
           * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint) AS room
