translate(l.fence, '0123456789', '') = '' AND length(l.fence) BETWEEN 1 AND 15 AND l.user_key = l.key
      AND l.expires_at_ms <= 8640000000000000 AND l.acquired_at_ms BETWEEN 0 AND 8640000000000000
