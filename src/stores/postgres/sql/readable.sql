(holder ~ '^[A-Za-z0-9_-]{22}$' AND fence ~ '^[0-9]{1,15}$' AND stored_key = key
    AND expires_at_ms BETWEEN 0 AND 8640000000000000 AND acquired_at_ms BETWEEN 0 AND 8640000000000000)
