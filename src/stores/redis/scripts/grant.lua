-- Mints a fence and writes lock and reverse mapping, where that lies on this server. `stored` is what lies
-- at the lock: a record that is no longer live, or false. MGET shows other types as absent, so absent keys
-- are written with NX.
local function grant(lock, fence, index, id, ttl, key, stored, previous, clock, now, now_text, retention)
  local digits = clock
  if previous then
    if #previous > 15 or not string.find(previous, '^%d+$') then return { -2, fence } end
    local last = tonumber(previous)
    if last >= tonumber(clock) then digits = print_number(last + 1) end
  end
  if #digits > 14 and tonumber(digits) > 900000000000000 then return { -3, fence } end
  local minted = true
  if retention ~= '0' then
    -- For as much longer as it is ahead of the clock.
    local px = print_number(retention + math.ceil((digits - clock) / 10))
    if previous then
      redis.call('SET', fence, digits, 'PX', px)
    else
      minted = redis.call('SET', fence, digits, 'PX', px, 'NX')
    end
  elseif previous then
    redis.call('SET', fence, digits)
  else
    minted = redis.call('SET', fence, digits, 'NX')
  end
  if not minted then return { -2, fence } end
  local expires = print_number(now + ttl)
  local padded = string.sub('000000000000000', #digits + 1) .. digits
  local record = format_record(id, expires, now_text, key, padded)
  if stored then
    redis.call('SET', lock, record, 'PX', ttl)
  elseif not redis.call('SET', lock, record, 'PX', ttl, 'NX') then
    return { -1, lock }
  end
  if index then redis.call('SET', index, lock, 'PX', ttl) end
  return { 1, digits, now_text, expires }
end

-- The answer to whoever asks again for what is theirs. It is written again as it is, so that WAIT on this
-- connection speaks of it.
local function again(lock, index, stored, fence, acquired, expires)
  local left = redis.call('PTTL', lock)
  if left > 0 then
    redis.call('SET', lock, stored, 'PX', left)
    if index then redis.call('SET', index, lock, 'PX', left) end
  end
  return { 1, fence, acquired, expires }
end

-- The answer to whoever meets a live lock. The key vanishes at its PX, before the tolerance has passed.
local function held(lock, expires, now)
  local free = expires + 1000 - now
  local left = redis.call('PTTL', lock)
  if left >= 0 and left < free then free = left end
  return { 0, free }
end
