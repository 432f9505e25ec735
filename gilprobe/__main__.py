from gilprobe.cli import main

main()
