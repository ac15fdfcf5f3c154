-- An error of a command ends a script as an error reply that begins with the error's code. Redis up to 6.2
-- hides it in a text ("@user_script: 12: -READONLY You can't ..."), and what an ACL denies to a script has
-- none in any version.
local ok, answer = pcall(script)
if ok and not (type(answer) == 'table' and answer.err) then return answer end
local text = string.gsub(type(answer) == 'table' and answer.err or tostring(answer), '^@?user_script: ?%d+: ', '')
text = string.gsub(text, '^%-', '')
if string.find(text, '^%u%u+ ') == nil then text = 'ERR ' .. text end
return { err = (string.gsub(text, '^ERR (The user executing the script can)', 'NOPERM %1')) }
