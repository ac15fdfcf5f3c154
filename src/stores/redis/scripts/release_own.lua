-- The way of an owner whose live record lies where it should, in the form that this library writes. KEYS, ARGV and the
-- answer are those of release.lua, which decides everything else. No function is made here: that costs more than using
-- it once.
if ARGV[1] == 'known' then
  local stored = redis.pcall('GET', KEYS[1])
  local begin = '{"lockId":"' .. ARGV[2] .. '","expiresAtMs":'
  if type(stored) == 'string' and string.sub(stored, 1, #begin) == begin then
    local expires, acquired, fence = string.match(stored,
      '^(%d+),"acquiredAtMs":(%d+),"key":"[^"\\%c]+","fence":"(%d+)"}$', #begin + 1)
    if expires and #expires <= 15 and #acquired <= 15 and #fence <= 15 then
      local time = redis.call('TIME')
      if tonumber(expires) > time[1] * 1000 + math.floor(time[2] / 1000) - 1000 then
        if KEYS[2] then redis.call('DEL', KEYS[1], KEYS[2]) else redis.call('DEL', KEYS[1]) end
        redis.pcall('PUBLISH', KEYS[1] .. ':wake', '')
        return { 1 }
      end
    end
  end
end
