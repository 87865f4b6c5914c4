"""`python -m tailboard`"""

from tailboard.command import main

main()
