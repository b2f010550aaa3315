# SPDX-License-Identifier: MIT
# Reads meson's testlog.txt and prints "PASSED FAILED SKIPPED". A cmocka program
# counts as the tests it names, any other as one; a program that ends badly
# counts at least one failure, also if it names none.

function close_program()
{
	if (result == "")
		return
	if (ok + bad + skip == 0) {
		if (result ~ /exit status 0/) ok = 1
		else if (result ~ /exit status 77/) skip = 1
	}
	if (bad == 0 && result !~ /exit status (0|77)( |$)/)
		bad = 1
	passed += ok; failed += bad; skipped += skip
	ok = bad = skip = 0; result = ""
}

/^result: /                          { result = $0 }
/^=+ [0-9]+\/[0-9]+ =+$/             { close_program() }
/^\[ +OK \] /                        { ok++ }
/^\[ +SKIPPED +\] [0-9]+ test\(s\)/  { skip += $4 }
/^\[ +FAILED +\] [0-9]+ test\(s\)/   { bad += $4 }
END                                  { close_program(); print passed + 0, failed + 0, skipped + 0 }
